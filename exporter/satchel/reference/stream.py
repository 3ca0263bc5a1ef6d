"""Turns ids into text as they come, whole characters only."""

import codecs

from satchel.reference.tokenizer import Tokenizer


class TextStream:
    """Text deltas of a growing list of ids; special tokens show nothing.

    A character whose bytes are not complete yet is held back. All deltas and `finish` together are what `decode` gives
    for all ids at once, replacement characters included.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this id completes; often one word, sometimes nothing."""
        text = self._decoder.decode(self._tokenizer.token_bytes(token, skip_special=True))
        held_back, _ = self._decoder.getstate()
        if held_back[:1] == b"\xed" and held_back[1:2] >= b"\xa0":
            # CPython waits for the third byte of a surrogate, which is no character whatever comes: show it now.
            self._decoder.reset()
            text += "\ufffd\ufffd"
        return text

    def finish(self) -> str:
        """What is left at the end: nothing, or U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)
