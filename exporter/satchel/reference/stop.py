"""Ends an answer at a stop string, also when it arrives in pieces (docs/streaming.md)."""

from collections.abc import Sequence

from satchel.errors import UsageError

MAX_STRINGS = 16
MAX_CHARACTERS = 256


def check_stop_strings(strings: Sequence[str]) -> None:
    """Raises UsageError unless there are at most 16, of 1 to 256 characters each, and none has half a surrogate."""
    if len(strings) > MAX_STRINGS:
        raise UsageError(f"there are {len(strings)} stop strings; there may be 0 to {MAX_STRINGS}")
    for text in strings:
        if not 1 <= len(text) <= MAX_CHARACTERS:
            raise UsageError(f"a stop string has {len(text)} characters; it must have 1 to {MAX_CHARACTERS}")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError(f"the stop string {text!r} has half of a surrogate pair; it must be text")


class StopStrings:
    """Passes text on until one of `strings` is complete in it; what may become one is held back."""

    def __init__(self, strings: Sequence[str]) -> None:
        check_stop_strings(strings)
        self._strings = tuple(strings)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What can be shown now. Once a stop string is complete, `found` is true and nothing comes after it."""
        if self.found:
            return ""
        text = self._held + text
        starts = [start for string in self._strings if (start := text.find(string)) >= 0]
        if starts:
            self.found, self._held = True, ""
            return text[: min(starts)]
        length = max((_begun(text, string) for string in self._strings), default=0)
        shown, self._held = text[: len(text) - length], text[len(text) - length :]
        return shown

    def finish(self) -> str:
        """What was held back and has not become a stop string."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, string: str) -> int:
    """Length of the longest end of `text` that is a beginning of `string`."""
    lengths = range(min(len(text), len(string) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(string[:length])), 0)
