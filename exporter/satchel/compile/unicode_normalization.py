"""Canonical composition (NFC) as the installed `tokenizers` release does it, as tables.

Android's own java.text.Normalizer follows the Unicode version of the phone. So the tables are taken from the release,
by asking it about every code point, and travel with the tokenizer. Hangul syllables are computed, not listed (Unicode
standard, 3.12).
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from satchel.errors import InternalError
from satchel.reference.tokenizer_format import CODE_POINTS, HANGUL_BASE, HANGUL_COUNT

# A base that nothing changes and nothing joins, to keep probes apart.
_APART = "\u2060"


@dataclass(frozen=True)
class Canonical:
    """decompositions: full, of every code point that has one; combining: class of every mark that is not 0;
    compositions: (first, second) -> the code point they become. All without Hangul.
    """

    decompositions: Mapping[int, tuple[int, ...]]
    combining: Mapping[int, int]
    compositions: Mapping[tuple[int, int], int]


@lru_cache(maxsize=1)
def canonical_tables() -> Canonical:
    """What the release knows. Raises InternalError if its normalizer does not follow the standard's algorithm."""
    from tokenizers import normalizers

    nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    points = [point for point in range(CODE_POINTS) if not 0xD800 <= point < 0xE000 and chr(point) != _APART]
    decomposed = nfd(_APART.join(map(chr, points))).split(_APART)
    decompositions = {
        point: tuple(map(ord, text))
        for point, text in zip(points, decomposed, strict=True)
        if text != chr(point) and not HANGUL_BASE <= point < HANGUL_BASE + HANGUL_COUNT
    }
    combining = _combining_classes([point for point in points if point not in decompositions])

    long = [point for point in decompositions if len(decompositions[point]) > 1]
    recomposed = nfc(_APART.join(map(chr, long))).split(_APART)
    heads = nfc(_APART.join("".join(map(chr, decompositions[point][:-1])) for point in long)).split(_APART)
    compositions = {}
    for point, text, head in zip(long, recomposed, heads, strict=True):
        if text == chr(point):
            if len(head) != 1:
                raise InternalError(f"U+{point:04X} is composed of more than two characters")
            compositions[ord(head), decompositions[point][-1]] = point
    return Canonical(decompositions, combining, compositions)


def _combining_classes(points: list[int]) -> dict[int, int]:
    """The canonical combining class of each code point that has one, found by where the release sorts it.

    Class numbers never change once given (Unicode's stability policy), so marks that this Python knows serve as the
    measure: a mark is of the class whose representative it neither passes nor lets pass.
    """
    from tokenizers import normalizers

    nfd = normalizers.NFD().normalize_str
    representatives: dict[int, str] = {}
    lowest, highest = "\u0334", "\u0345"  # classes 1 and 240
    for point in range(CODE_POINTS):
        value = unicodedata.combining(chr(point))
        if value and not unicodedata.decomposition(chr(point)):
            known = nfd(highest + chr(point)) != highest + chr(point) or nfd(chr(point) + lowest) != chr(point) + lowest
            if known:  # the release's Unicode version may be older
                representatives.setdefault(value, chr(point))

    def sorted_behind(candidates: list[int], mark: str) -> list[bool]:
        """Whether each candidate, written before the mark, ends up behind it."""
        probes = _APART.join(chr(point) + mark for point in candidates)
        return [text[0] == mark and text[1:] != mark for text in nfd(probes).split(_APART)]

    def sorted_before(candidates: list[int], mark: str) -> list[bool]:
        """Whether each candidate, written behind the mark, ends up before it."""
        probes = _APART.join(mark + chr(point) for point in candidates)
        return [text[0] != mark for text in nfd(probes).split(_APART)]

    above = sorted_behind(points, lowest)
    below = sorted_before(points, highest)
    marks = [point for point, up, down in zip(points, above, below, strict=True) if up or down]
    found: dict[int, int] = {}
    for value, mark in sorted(representatives.items()):
        behind, before = sorted_behind(marks, mark), sorted_before(marks, mark)
        for point, up, down in zip(marks, behind, before, strict=True):
            if not up and not down and found.setdefault(point, value) != value:
                raise InternalError(f"U+{point:04X} sorts like marks of two classes")
    if len(found) != len(marks):
        raise InternalError("the release has combining classes that this Python does not know")
    return found
