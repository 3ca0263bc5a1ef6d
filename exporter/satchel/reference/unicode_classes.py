"""Character classes as the installed `tokenizers` release sees them.

A device has no regex engine that is the same everywhere, so the pre-tokenizer's classes travel as a table. It is taken
from the release itself by asking it about every code point, never from this Python's own Unicode data, which is of
another version.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from satchel.reference.tokenizer_format import CODE_POINTS, CharClass

_SURROGATES = range(0xD800, 0xE000)

# The first character of its class that a Unicode version added, newest first.
_NEW_LETTERS = {"17.0": 0x323B0, "16.0": 0x10D4A, "15.1": 0x2EBF0, "15.0": 0x11F04, "14.0": 0x10570, "13.0": 0x30000}
_NEW_NUMERALS = {"17.0": 0x11DE0, "16.0": 0x10D40, "15.0": 0x11F50, "13.0": 0x11950}


@lru_cache(maxsize=1)
def character_classes() -> NDArray[np.uint8]:
    """CharClass bits of every code point: uint8 [0x110000]; surrogates have none."""
    from tokenizers import Regex, pre_tokenizers

    def isolated(pattern: str) -> pre_tokenizers.PreTokenizer:
        return pre_tokenizers.Split(Regex(pattern), behavior="removed")

    points = np.array([point for point in range(CODE_POINTS) if point not in _SURROGATES], dtype=np.uint32)
    text = points.astype("<u4").tobytes().decode("utf-32-le")
    classes = np.zeros(CODE_POINTS, dtype=np.uint8)
    probes = {
        CharClass.LETTER: isolated(r"\p{L}+"),
        CharClass.NUMBER: isolated(r"\p{N}+"),
        CharClass.SPACE: isolated(r"\s+"),
        CharClass.STRIP: pre_tokenizers.WhitespaceSplit(),
    }
    for bit, splitter in probes.items():
        removed = np.ones(len(points), dtype=bool)
        for _, (start, end) in splitter.pre_tokenize_str(text):
            removed[start:end] = False
        classes[points[removed]] |= int(bit)
    # Digits keeps what it cuts: runs of digits and runs of everything else alternate, and U+0000 is no digit.
    runs = pre_tokenizers.Digits(individual_digits=False).pre_tokenize_str(text)
    for _, (start, end) in runs[1::2]:
        classes[points[start:end]] |= int(CharClass.NUMERIC)
    return classes


def class_ranges(classes: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """The table as runs: first code point of each run (the first is 0, ascending) and the run's class bits."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(classes)) + 1]).astype(np.uint32)
    return starts, classes[starts]


def unicode_versions(classes: NDArray[np.uint8]) -> dict[str, str]:
    """The Unicode version behind the letters (the release's regex engine) and behind Digits (its Rust library)."""

    def newest(markers: dict[str, int], bit: CharClass) -> str:
        return next((version for version, point in markers.items() if classes[point] & bit), "older")

    return {"regex": newest(_NEW_LETTERS, CharClass.LETTER), "digits": newest(_NEW_NUMERALS, CharClass.NUMERIC)}
