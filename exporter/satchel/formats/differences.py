"""Where two programs that should be the same differ, in words: for the proof that no slot is missing."""

from collections import Counter
from collections.abc import Mapping, Sequence

Region = tuple[int, int]  # offset and bytes in the file


def different_constants(filled: Sequence[int], lowered: Sequence[int]) -> str:
    """For programs whose constants have other sizes in bytes."""
    surplus, missing = Counter(filled) - Counter(lowered), Counter(lowered) - Counter(filled)
    return (
        f"the filled program has {len(filled)} constants and the lowered one {len(lowered)}; "
        f"only the one has {_sizes(surplus)}, only the other {_sizes(missing)}"
    )


def _sizes(count: Counter[int]) -> str:
    return ", ".join(f"{size} bytes" for size in sorted(count.elements())[:3]) or "none"


def first_different_byte(one: bytes, other: bytes) -> int:
    """Its position; that of the end of the shorter one if it begins the longer one."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # the longest common beginning
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def described(position: int, places: Mapping[Region, str]) -> str:
    """The byte with the smallest of the regions that have it. places: region -> what it is."""
    around = [(size, start, words) for (start, size), words in places.items() if start <= position < start + size]
    if not around:
        return f"byte {position}, which is in no constant"
    size, start, words = min(around)
    return f"byte {position}, in {words} ({size} bytes at {start})"
