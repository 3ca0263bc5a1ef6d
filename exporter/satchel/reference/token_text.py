"""From tokens to text, one at a time: the same for a stream and for a whole answer."""

import codecs
import struct
from collections.abc import Mapping

from satchel.errors import BundleError
from satchel.reference.steps import read_texts
from satchel.reference.tokenizer_format import DecoderOp, Section, TokenFlag

_REPLACEMENT = "\ufffd"


class TextDecoder:
    """The decoder's steps, and what a text under way needs to know. Raises BundleError for a step that is not known."""

    def __init__(self, sections: Mapping[int, memoryview]) -> None:
        self._texts = read_texts(sections[Section.TEXTS])
        self._steps = list(struct.iter_unpack("<III", sections[Section.DECODER]))
        for op, _, _ in self._steps:
            if op not in set(DecoderOp):
                raise BundleError(f"tokenizer.bin has the decoder {op}, which this Satchel does not know")

    def begin(self) -> "TextInParts":
        """A text that has no tokens yet."""
        if self._steps == [(DecoderOp.BYTES, 0, 0)]:
            return _TextOfBytes()
        return _TextOfTokens(self._steps, self._texts)


class TextInParts:
    """Gives whole characters as soon as it is certain what they are."""

    def add(self, token: bytes, flags: TokenFlag) -> str:
        """What this token completes."""
        raise NotImplementedError

    def end(self) -> str:
        """What was held back."""
        raise NotImplementedError


class _TextOfBytes(TextInParts):
    """Byte-level: the bytes of all tokens are one UTF-8 text; what is malformed becomes U+FFFD, one each subpart."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: bytes, flags: TokenFlag) -> str:
        text = self._decoder.decode(token)
        held_back, _ = self._decoder.getstate()
        if held_back[:1] == b"\xed" and held_back[1:2] >= b"\xa0":
            # CPython waits for the third byte of a surrogate, which is no character whatever comes: show it now.
            self._decoder.reset()
            text += 2 * _REPLACEMENT
        return text

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class _TextOfTokens(TextInParts):
    """Tokens are texts. A run of byte tokens is one UTF-8 text, or, if it is malformed, one U+FFFD for each of them."""

    def __init__(self, steps: list[tuple[int, int, int]], texts: list[str]) -> None:
        self._replacements: list[tuple[str, str]] = []
        self._first_replacements: list[tuple[str, str]] = []
        self._falls_back = False
        self._strips, self._left_to_strip = "", 0
        for op, first, second in steps:
            if op == DecoderOp.REPLACE:
                self._replacements.append((texts[first], texts[second]))
            elif op == DecoderOp.METASPACE:
                self._replacements.append((texts[first], " "))
                self._first_replacements = [(texts[first], "" if second else " ")]
            elif op == DecoderOp.BYTE_FALLBACK:
                self._falls_back = True
            elif op == DecoderOp.STRIP_START:
                self._strips, self._left_to_strip = texts[first], second
        self._run = bytearray()
        self._any = False

    def add(self, token: bytes, flags: TokenFlag) -> str:
        if self._falls_back and flags & TokenFlag.BYTE:
            self._run.append(int(token[3:5], 16))
            self._any = True
            return ""
        text = token.decode()
        for old, new in self._first_replacements if self._first_replacements and not self._any else self._replacements:
            text = text.replace(old, new)
        self._any = True
        return self._stripped(self._end_run() + text)

    def end(self) -> str:
        return self._stripped(self._end_run())

    def _end_run(self) -> str:
        run, self._run = self._run, bytearray()
        try:
            return run.decode()
        except UnicodeDecodeError:
            return _REPLACEMENT * len(run)

    def _stripped(self, text: str) -> str:
        start = 0
        while start < len(text) and self._left_to_strip:
            if text[start] == self._strips:
                start += 1
                self._left_to_strip -= 1
            else:
                self._left_to_strip = 0
        return text[start:]
