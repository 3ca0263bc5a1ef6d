"""Compiles the rules for what a reader sees as one character into the table that devices read.

They are the extended grapheme clusters of Unicode Standard Annex #29, revision 49 (Unicode 18), with the character
properties of the installed `regex` release.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from satchel.compile.unicode_classes import code_points, every_character
from satchel.reference.tokenizer_format import CODE_POINTS

# The classes that the rules tell apart. Extend has three parts: a LINKER joins the next consonant, EXTEND lets it,
# SEPARATOR (U+200C) does not. A SIGN links as well but is no Extend. OTHER is all the rest.
_PROPERTIES = {
    "CR": r"\p{GCB=CR}",
    "LF": r"\p{GCB=LF}",
    "CONTROL": r"\p{GCB=Control}",
    "EXTEND": r"[\p{GCB=Extend}&&\p{InCB=Extend}]",
    "LINKER": r"[\p{GCB=Extend}&&\p{InCB=Linker}]",
    "SEPARATOR": r"[\p{GCB=Extend}--\p{InCB=Extend}--\p{InCB=Linker}]",
    "ZWJ": r"\p{GCB=ZWJ}",
    "REGIONAL": r"\p{GCB=Regional_Indicator}",
    "PREPEND": r"\p{GCB=Prepend}",
    "SPACING": r"\p{GCB=SpacingMark}",
    "L": r"\p{GCB=L}",
    "V": r"\p{GCB=V}",
    "T": r"\p{GCB=T}",
    "LV": r"\p{GCB=LV}",
    "LVT": r"\p{GCB=LVT}",
    "PICTOGRAPH": r"\p{Extended_Pictographic}",
    "CONSONANT": r"\p{InCB=Consonant}",
    "SIGN": r"[\p{InCB=Linker}--\p{GCB=Extend}]",
}
_CLASSES = ("OTHER", *_PROPERTIES)
_ENDS = {"CR", "LF", "CONTROL"}
_EXTENDS = {"EXTEND", "LINKER", "SEPARATOR", "ZWJ"}
_JOINS = {
    "L": {"L", "V", "LV", "LVT"},  # GB6
    "V": {"V", "T"},  # GB7
    "T": {"T"},  # GB8
    "JOINER": {"PICTOGRAPH"},  # GB11
    "REGIONAL": {"REGIONAL"},  # GB12, GB13
}


class _State(NamedTuple):
    """What the rules need to know of the text before a character.

    last: START, END (of a line, or a control), CR, L, V, T, PREPEND, REGIONAL (an odd number of them), PICTOGRAPH (with
    its extensions), JOINER (the same, then ZWJ) or OTHER. linked: a linker joins the next consonant.
    """

    last: str
    linked: bool = False

    def begins(self, kind: str) -> bool:
        """Whether a cluster begins at a character of this class."""
        if self.last == "START":
            return True  # GB1
        if self.last == "CR" and kind == "LF":
            return False  # GB3
        if self.last in ("CR", "END") or kind in _ENDS:
            return True  # GB4, GB5
        if kind in _EXTENDS or kind == "SPACING" or self.last == "PREPEND":
            return False  # GB9, GB9a, GB9b
        if self.linked and kind == "CONSONANT":
            return False  # GB9c
        return kind not in _JOINS.get(self.last, ())

    def after(self, kind: str) -> "_State":
        linked = kind in ("LINKER", "SIGN") or (self.linked and kind in ("EXTEND", "ZWJ"))
        if kind in ("LF", "CONTROL"):
            return _State("END")
        if kind in ("CR", "L", "V", "T", "PREPEND", "PICTOGRAPH"):
            return _State(kind)
        if kind in ("LV", "LVT"):
            return _State("V" if kind == "LV" else "T")
        if kind == "REGIONAL" and self.last != "REGIONAL":
            return _State("REGIONAL")
        if self.last == "PICTOGRAPH" and kind in _EXTENDS:
            return _State("JOINER" if kind == "ZWJ" else "PICTOGRAPH", linked)
        return _State("OTHER", linked)


def grapheme_section() -> bytes:
    """u32 numbers of states, classes and runs; u32 [states, classes], 2 * next state + 1 if a cluster begins at such a
    character; u32 [runs], 256 * first code point + class, ascending. A text starts in state 0.
    """
    states = [_State("START")]
    for state in states:  # which grows meanwhile
        states += dict.fromkeys(after for kind in _CLASSES if (after := state.after(kind)) not in states)
    entries = [2 * states.index(state.after(kind)) + state.begins(kind) for state in states for kind in _CLASSES]
    runs = _runs()
    return np.array([len(states), len(_CLASSES), len(runs), *entries, *runs], dtype="<u4").tobytes()


@lru_cache(maxsize=1)
def _runs() -> list[int]:
    import regex

    points, text = code_points(), every_character()
    classes = np.zeros(CODE_POINTS, dtype=np.int64)
    for number, kind in enumerate(_CLASSES):
        if kind in _PROPERTIES:
            for run in regex.finditer(f"(?V1){_PROPERTIES[kind]}+", text):
                classes[points[run.start()] : points[run.end() - 1] + 1] = number
    starts = np.flatnonzero(np.diff(classes, prepend=-1))
    return list((starts * 256 + classes[starts]).tolist())
