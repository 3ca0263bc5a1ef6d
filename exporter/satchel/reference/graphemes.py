"""Text in characters as a reader sees them, however it arrives (docs/streaming.md)."""

from bisect import bisect_right

import numpy as np


class GraphemeBreaks:
    """Where extended grapheme clusters begin (Unicode Standard Annex #29), by the tables of `tokenizer.bin`."""

    def __init__(self, section: memoryview) -> None:
        numbers: list[int] = np.frombuffer(section, "<u4").tolist()
        states, self._classes, runs = numbers[:3]
        self._entries = numbers[3 : 3 + states * self._classes]
        self._runs = numbers[len(numbers) - runs :]

    def step(self, state: int, character: str) -> tuple[int, bool]:
        """The state behind a character, and whether a cluster begins at it. The state at the start of a text is 0."""
        run = self._runs[bisect_right(self._runs, ord(character) * 256 + 255) - 1]
        entry = self._entries[state * self._classes + run % 256]
        return entry >> 1, bool(entry & 1)


class WholeGraphemes:
    """Holds each text back until the next one shows that nothing more joins its last cluster."""

    def __init__(self, breaks: GraphemeBreaks) -> None:
        self._breaks = breaks
        self._held = ""
        self._state = 0
        self._last = 0  # where the last cluster begins in what is held

    def push(self, text: str) -> str:
        """What can be shown now: all that was held if this text begins a cluster, else all before the one it joins."""
        if not text:
            return ""
        held = len(self._held)
        certain = self._last
        for place, character in enumerate(text, held):
            self._state, begins = self._breaks.step(self._state, character)
            if begins:
                self._last = place
                if place == held:
                    certain = held
        text = self._held + text
        self._held = text[certain:]
        self._last -= certain
        return text[:certain]

    def finish(self) -> str:
        """What was held back."""
        held, self._held, self._state, self._last = self._held, "", 0, 0
        return held
