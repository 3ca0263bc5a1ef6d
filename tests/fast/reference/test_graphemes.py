"""Grapheme clusters against the `regex` library's, and no cluster split however a text is cut into pieces."""

import random

import pytest
import regex

from satchel.compile.graphemes import grapheme_section
from satchel.compile.unicode_classes import every_character
from satchel.reference.graphemes import GraphemeBreaks, WholeGraphemes

# The properties that the rules of UAX #29 tell apart, and scripts.
BREAKS = (
    "CR",
    "LF",
    "Control",
    "Extend",
    "ZWJ",
    "Regional_Indicator",
    "Prepend",
    "SpacingMark",
    "L",
    "V",
    "T",
    "LV",
    "LVT",
)
PROPERTIES = (
    *(f"GCB={name}" for name in BREAKS),
    *("InCB=Consonant", "InCB=Linker", "InCB=Extend", "Extended_Pictographic"),
    *("Latin", "Devanagari", "Cherokee"),
)


@pytest.fixture(scope="module")
def breaks() -> GraphemeBreaks:
    return GraphemeBreaks(memoryview(grapheme_section()))


@pytest.fixture(scope="module")
def members() -> list[list[str]]:
    """The characters of each property."""
    return [regex.findall(rf"\p{{{name}}}", every_character()) for name in PROPERTIES]


def random_text(source: random.Random, members: list[list[str]]) -> str:
    return "".join(source.choice(source.choice(members)) for _ in range(source.randint(1, 9)))


def test_clusters_are_those_of_the_library(breaks: GraphemeBreaks, members: list[list[str]]) -> None:
    source = random.Random(1)
    for _ in range(30_000):
        text = random_text(source, members)
        clusters: list[str] = []
        state = 0
        for character in text:
            state, begins = breaks.step(state, character)
            clusters[len(clusters) :] = [character] if begins else [clusters.pop() + character]
        assert clusters == regex.findall(r"\X", text), ascii(text)


def test_every_character_has_its_class(breaks: GraphemeBreaks, members: list[list[str]]) -> None:
    """Every pair of a letter, a mark, a pictograph, a consonant or a syllable with any character of a property."""
    for first in ("a", "\u0301", "\u2764\u200d", "\u0915\u094d", "\u1100", "\uac00", "\U0001f1e9", "\u0600"):
        state = 0
        for character in first:
            state, _ = breaks.step(state, character)
        for characters in members:
            for second in characters:
                joined = len(regex.findall(r"\X", first + second)) == 1
                assert breaks.step(state, second)[1] != joined, ascii(first + second)


def test_what_is_shown_ends_between_clusters(breaks: GraphemeBreaks, members: list[list[str]]) -> None:
    source = random.Random(2)
    split = 0
    for _ in range(3_000):
        pieces = [random_text(source, members)[: source.randint(0, 4)] for _ in range(6)]
        text = "".join(pieces)
        ends = {0, *(match.end() for match in regex.finditer(r"\X", text))}
        graphemes = WholeGraphemes(breaks)
        shown, came = "", ""
        for piece in pieces:
            before = came
            shown += graphemes.push(piece)
            came += piece
            split += len(came) not in ends
            assert len(shown) in ends
            # No more is held than the newest piece, or from where the cluster began that it joins.
            assert len(shown) >= max((end for end in ends if end <= len(before)), default=0) or not piece
        assert shown + graphemes.finish() == text
    assert split > 1_000


def test_an_ordinary_token_is_shown_when_the_next_one_comes(breaks: GraphemeBreaks) -> None:
    graphemes = WholeGraphemes(breaks)
    assert [graphemes.push(text) for text in ("The", " capital", "", " of")] == ["", "The", "", " capital"]
    assert graphemes.finish() == " of"
    assert graphemes.finish() == ""
