"""Sets of characters as the installed `tokenizers` release sees them.

A device has no regex engine that is the same everywhere, so character classes travel as tables. They are taken from the
release itself by asking it about every code point, never from this Python's own Unicode data, which is of another
version.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from satchel.errors import TokenizerError
from satchel.reference.tokenizer_format import CODE_POINTS

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

Mask = NDArray[np.bool_]

_SURROGATES = slice(0xD800, 0xE000)

# The first character of its kind that a Unicode version added, newest first.
_NEW_LETTERS = {"17.0": 0x323B0, "16.0": 0x10D4A, "15.1": 0x2EBF0, "15.0": 0x11F04, "14.0": 0x10570, "13.0": 0x30000}
_NEW_NUMERALS = {"17.0": 0x11DE0, "16.0": 0x10D40, "15.0": 0x11F50, "13.0": 0x11950}


class CharacterSet:
    """A set of code points. Surrogates are in none, and sets with the same members are equal."""

    def __init__(self, mask: Mask) -> None:
        """mask: bool [0x110000]."""
        inside = np.concatenate([[False], mask, [False]])
        inside[1 + _SURROGATES.start : 1 + _SURROGATES.stop] = False
        self._bounds = tuple(np.flatnonzero(np.diff(inside)).tolist())  # where runs of members begin and end, by turns

    @classmethod
    def of(cls, characters: str) -> "CharacterSet":
        mask = np.zeros(CODE_POINTS, dtype=bool)
        mask[[ord(character) for character in characters]] = True
        return cls(mask)

    @classmethod
    def between(cls, first: int, last: int) -> "CharacterSet":
        mask = np.zeros(CODE_POINTS, dtype=bool)
        mask[first : last + 1] = True
        return cls(mask)

    @property
    def bounds(self) -> tuple[int, ...]:
        """First member of a run, first code point behind it, and so on."""
        return self._bounds

    def mask(self) -> Mask:
        """bool [0x110000]."""
        mask = np.zeros(CODE_POINTS, dtype=bool)
        for start, stop in zip(self._bounds[::2], self._bounds[1::2], strict=True):
            mask[start:stop] = True
        return mask

    def __contains__(self, point: int) -> bool:
        return bool(bisect_right(self._bounds, point) % 2)

    def __or__(self, other: "CharacterSet") -> "CharacterSet":
        return CharacterSet(self.mask() | other.mask())

    def __invert__(self) -> "CharacterSet":
        return CharacterSet(~self.mask())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharacterSet) and self._bounds == other._bounds

    def __hash__(self) -> int:
        return hash(self._bounds)

    @property
    def single(self) -> int | None:
        """The code point of a set of one; None for any other set."""
        return self._bounds[0] if len(self._bounds) == 2 and self._bounds[1] == self._bounds[0] + 1 else None


def partition(sets: Sequence[CharacterSet]) -> tuple[NDArray[np.uint8], list[Mask]]:
    """The coarsest classes that tell all sets apart: the class of every code point, uint8 [0x110000], and for each set
    which classes it holds, bool [classes]. Surrogates, which no text has, are of the class of the other outsiders.

    Raises TokenizerError if there are more than 255 classes.
    """
    # Between two neighbouring bounds, whichever sets they are of, all code points are alike.
    starts = np.unique(np.array([0, *(bound for characters in sets for bound in characters.bounds)], dtype=np.int64))
    starts = starts[starts < CODE_POINTS]
    holds = np.array([[start in characters for start in starts.tolist()] for characters in sets], dtype=bool)
    kinds, of_run = np.unique(holds.reshape(len(sets), len(starts)).T, axis=0, return_inverse=True)
    if len(kinds) > 255:
        raise TokenizerError(f"the tokenizer tells {len(kinds)} kinds of characters apart, tokenizer.bin can hold 255")
    lengths = np.diff(np.append(starts, CODE_POINTS))
    return np.repeat(of_run.reshape(-1).astype(np.uint8), lengths), list(kinds.T)


# --- asking the release -----------------------------------------------------------------------------------------


def property_set(pattern: str, negative: bool = False) -> CharacterSet:
    r"""What the release's regex engine takes for `\p{L}`, `\s` and the like. Raises TokenizerError for no such name."""
    return ~_property(pattern) if negative else _property(pattern)


@lru_cache(maxsize=64)
def _property(pattern: str) -> CharacterSet:
    from tokenizers import Regex, pre_tokenizers

    try:
        splitter = pre_tokenizers.Split(Regex(pattern + "+"), behavior="removed")
    except Exception as error:  # the library raises plain Exception
        raise TokenizerError(f"the tokenizer's pattern uses {pattern}, which is refused: {error}") from error
    return _removed_by(splitter)


@lru_cache(maxsize=1)
def numeric_set() -> CharacterSet:
    """What Digits calls a digit. Of another Unicode version than the regex engine's numbers."""
    from tokenizers import pre_tokenizers

    return _cut_out_by(pre_tokenizers.Digits(individual_digits=False))


@lru_cache(maxsize=1)
def punctuation_set() -> CharacterSet:
    """What Punctuation calls punctuation."""
    from tokenizers import pre_tokenizers

    return _removed_by(pre_tokenizers.Punctuation(behavior="removed"))


@lru_cache(maxsize=1)
def blank_set() -> CharacterSet:
    """What Strip, lstrip and rstrip take away."""
    from tokenizers import pre_tokenizers

    return _removed_by(pre_tokenizers.WhitespaceSplit())


@lru_cache(maxsize=1)
def word_set() -> CharacterSet:
    """What may not stand beside an added token that is a single_word."""
    from tokenizers import pre_tokenizers

    points = code_points()
    text = "".join(f"a{chr(point)} " for point in points)
    joined = np.zeros(CODE_POINTS, dtype=bool)
    for _, (start, end) in pre_tokenizers.Whitespace().pre_tokenize_str(text):
        if end - start == 2 and start % 3 == 0:
            joined[points[start // 3]] = True
    return CharacterSet(joined)


def ignoring_case(characters: CharacterSet) -> CharacterSet | None:
    """The set with the other cases of its characters; None unless it is one ASCII character."""
    from tokenizers import Regex, pre_tokenizers

    point = characters.single
    if point is None or point >= 0x80:
        return None
    if not chr(point).isalpha():
        return characters
    text = "".join(map(chr, np.flatnonzero(_ascii_letters_of_any_case().mask())))
    splitter = pre_tokenizers.Split(Regex(f"(?i:{chr(point)})"), behavior="removed")
    kept = "".join(piece for piece, _ in splitter.pre_tokenize_str(text))
    return CharacterSet.of("".join(character for character in text if character not in kept))


@lru_cache(maxsize=1)
def _ascii_letters_of_any_case() -> CharacterSet:
    from tokenizers import Regex, pre_tokenizers

    return _removed_by(pre_tokenizers.Split(Regex("(?i:[a-z])+"), behavior="removed"))


@lru_cache(maxsize=1)
def code_points() -> NDArray[np.uint32]:
    """All code points that a text can have, ascending: no surrogates. uint32 [1112064]."""
    points = np.arange(CODE_POINTS, dtype=np.uint32)
    return np.delete(points, np.r_[_SURROGATES])


def every_character() -> str:
    """The text of all code points, each once, in the order of `code_points`."""
    return code_points().astype("<u4").tobytes().decode("utf-32-le")


def _removed_by(splitter: "PreTokenizer") -> CharacterSet:
    points = code_points()
    removed = np.ones(len(points), dtype=bool)
    for _, (start, end) in splitter.pre_tokenize_str(every_character()):
        removed[start:end] = False
    mask = np.zeros(CODE_POINTS, dtype=bool)
    mask[points[removed]] = True
    return CharacterSet(mask)


def _cut_out_by(splitter: "PreTokenizer") -> CharacterSet:
    """For a splitter that keeps what it finds: found and other runs alternate, and U+0000 is not found."""
    points = code_points()
    mask = np.zeros(CODE_POINTS, dtype=bool)
    for _, (start, end) in splitter.pre_tokenize_str(every_character())[1::2]:
        mask[points[start:end]] = True
    return CharacterSet(mask)


def unicode_versions() -> dict[str, str]:
    """The Unicode version behind the letters (the release's regex engine) and behind Digits (its Rust library)."""

    def newest(markers: dict[str, int], characters: CharacterSet) -> str:
        return next((version for version, point in markers.items() if point in characters), "older")

    return {"regex": newest(_NEW_LETTERS, property_set(r"\p{L}")), "digits": newest(_NEW_NUMERALS, numeric_set())}
