"""Stop strings against a search in the whole text, however it is cut into pieces."""

import random

import pytest

from satchel.errors import UsageError
from satchel.reference.stop import StopStrings


def streamed(strings: list[str], pieces: list[str]) -> tuple[str, bool]:
    stop = StopStrings(strings)
    shown = "".join(stop.push(piece) for piece in pieces)
    assert not any(string in shown for string in strings)
    return shown + stop.finish(), stop.found


def test_letter_by_letter_the_first_complete_string_ends_the_text() -> None:
    source = random.Random(3)
    ended = 0
    for _ in range(5000):
        strings = ["".join(source.choices("ab", k=source.randint(1, 5))) for _ in range(source.randint(0, 3))]
        text = "".join(source.choices("abc", weights=(4, 4, 1), k=source.randint(0, 20)))
        complete = next((n for n in range(len(text) + 1) if any(string in text[:n] for string in strings)), None)
        expected = text
        if complete is not None:
            expected = text[: min(text[:complete].find(s) for s in strings if s in text[:complete])]
        assert streamed(strings, list(text)) == (expected, complete is not None)
        ended += complete is not None
    assert 1000 < ended < 4800


def test_text_without_a_stop_string_comes_whole_however_it_is_cut() -> None:
    source = random.Random(4)
    for _ in range(2000):
        text = "".join(source.choices("abc", k=source.randint(0, 30)))
        strings = [string for string in ("abca", "bb", "caca") if string not in text]
        cuts = sorted(source.sample(range(len(text) + 1), k=min(3, len(text))))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert streamed(strings, pieces) == (text, False)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    stop = StopStrings(["END"])
    assert [stop.push(piece) for piece in ("the E", "N", "T E", "ND", "more")] == ["the ", "", "ENT ", "", ""]


def test_half_a_surrogate_is_refused() -> None:
    with pytest.raises(UsageError, match="surrogate"):
        StopStrings(["a\ud83d"])
