"""Whole characters from ids that come one by one."""

from satchel.reference.tokenizer import Tokenizer


class TextStream:
    """Decodes ids as they come, special tokens left out; what it shows is what decoding all of them at once gives.

    A token may end in the middle of a character: what is not whole yet is held back until the next tokens complete it
    or it turns out to be malformed (docs/tokenizer-format.md).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._text = tokenizer.begin_text()

    def push(self, token: int) -> str:
        """The text that this id completes."""
        return self._tokenizer.add_token(self._text, token, skip_special=True)

    def finish(self) -> str:
        """The text of what was held back."""
        return self._text.end()
