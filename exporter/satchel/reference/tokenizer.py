"""The tokenizer that a device runs, in plain Python: the definition that Kotlin and Swift must equal.

It reads `tokenizer.bin` only (docs/tokenizer-format.md) and equals Hugging Face's `tokenizers` on every text: nothing
here asks Python about Unicode, and nothing recurses or takes more than n log n steps.
"""

import heapq
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BundleError
from satchel.reference.tokenizer_compiler import compile_tokenizer as compile_tokenizer
from satchel.reference.tokenizer_format import (
    CODE_POINTS,
    NO_TOKEN,
    AddedFlag,
    CharClass,
    Decoder,
    Model,
    Op,
    Section,
    TokenFlag,
    unpack_sections,
)

_SURROGATE = re.compile("[\ud800-\udfff]")
_CACHED_PIECES = 1 << 16
_CACHED_LENGTH = 64

_WORD = CharClass.LETTER | CharClass.NUMBER | CharClass.SPACE
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched in the text itself, before anything else."""

    id: int
    content: str
    flags: AddedFlag

    @property
    def special(self) -> bool:
        return bool(self.flags & AddedFlag.SPECIAL)


class Tokenizer:
    """Text to ids and back."""

    def __init__(self, data: bytes) -> None:
        sections = unpack_sections(data)
        model, decoder, self.vocab_size = struct.unpack_from("<III", sections[Section.MODEL])
        if model != Model.BYTE_BPE or decoder != Decoder.BYTES:
            raise BundleError(
                f"tokenizer.bin has model {model} and decoder {decoder}, which this Satchel does not know"
            )
        self._flags = bytes(sections[Section.TOKEN_FLAGS])
        self._offsets = np.frombuffer(sections[Section.TOKEN_OFFSETS], "<u4").tolist()
        self._bytes = bytes(sections[Section.TOKEN_BYTES])
        self._byte_ids: tuple[int, ...] = struct.unpack("<256I", sections[Section.BYTE_IDS])
        self._merge_rows = np.frombuffer(sections[Section.MERGE_ROWS], "<u4")
        self._merge_table = np.frombuffer(sections[Section.MERGES], "<u4").reshape(3, -1)
        self._classes = _expand_classes(sections[Section.CLASSES])
        self._ops = [self._operation(op, argument) for op, argument in struct.iter_unpack("<II", sections[Section.OPS])]
        self.added_tokens = _read_added(sections[Section.ADDED_TOKENS], bytes(sections[Section.ADDED_BYTES]))
        self._first_pass = _Matcher(token for token in self.added_tokens if not token.flags & AddedFlag.NORMALIZED)
        self._second_pass = _Matcher(token for token in self.added_tokens if token.flags & AddedFlag.NORMALIZED)
        self._cache: dict[str, tuple[int, ...]] = {}

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tokenizer":
        """Reads a `tokenizer.bin`. Raises BundleError if it is none, cut short or of another version."""
        return cls(data)

    # --- text to ids --------------------------------------------------------------------------------------------

    def encode(self, text: str, special: bool) -> list[int]:
        """The ids of a text. special=False is for text of a user: special tokens in it are ordinary characters.

        No beginning-of-text token is added. An unpaired surrogate counts as U+FFFD.
        """
        text = _SURROGATE.sub("\ufffd", text)
        ids: list[int] = []
        for outer in self._split_added(text, self._first_pass, special):
            inner = [outer] if isinstance(outer, int) else self._split_added(outer, self._second_pass, special)
            for part in inner:
                if isinstance(part, int):
                    ids.append(part)
                else:
                    self._encode_plain(part, ids)
        return ids

    def cut_special(self, text: str) -> list["str | AddedToken"]:
        """A text cut at its special tokens, taken as written: the tokens and the texts between them."""
        parts: list[str | AddedToken] = [text] if text else []
        for matcher in (self._first_pass, self._second_pass):
            parts = [
                piece for part in parts for piece in (matcher.cut_special(part) if isinstance(part, str) else [part])
            ]
        return parts

    def _split_added(self, text: str, matcher: "_Matcher", special: bool) -> Iterator[str | int]:
        """The text cut at added tokens: ids of tokens and the text between them."""
        done = 0
        for start, end, token in matcher.matches(text):
            if token.special and not special:
                continue  # its characters stay text, and no other token is looked for inside them
            if token.flags & AddedFlag.LSTRIP:
                while start > 0 and self._classes[ord(text[start - 1])] & CharClass.STRIP:
                    start -= 1
                start = max(start, done)
            if token.flags & AddedFlag.RSTRIP:
                while end < len(text) and self._classes[ord(text[end])] & CharClass.STRIP:
                    end += 1
            if done < start:
                yield text[done:start]
            yield token.id
            done = end
        if done < len(text):
            yield text[done:]

    def _encode_plain(self, text: str, ids: list[int]) -> None:
        pieces = [text]
        for operation in self._ops:
            pieces = [part for piece in pieces for part in operation(piece)]
        for piece in pieces:
            merged = self._cache.get(piece)
            if merged is None:
                merged = tuple(self._merge(piece.encode()))
                if len(piece) <= _CACHED_LENGTH and len(self._cache) < _CACHED_PIECES:
                    self._cache[piece] = merged
            ids.extend(merged)

    # --- pre-tokenizer ------------------------------------------------------------------------------------------

    def _operation(self, op: int, argument: int) -> Callable[[str], Sequence[str]]:
        if op == Op.PREFIX_SPACE:
            return lambda piece: [piece if piece.startswith(" ") else " " + piece]
        if op == Op.DIGITS:
            return lambda piece: self._split_digits(piece, individual=bool(argument))
        if op == Op.SPLIT_GPT2:
            return self._split_gpt2
        raise BundleError(f"tokenizer.bin has the pre-tokenizer operation {op}, which this Satchel does not know")

    def _split_digits(self, text: str, individual: bool) -> list[str]:
        """Runs of digits and runs of everything else; each digit by itself if `individual`."""
        pieces, start = [], 0
        numeric = [bool(self._classes[ord(character)] & CharClass.NUMERIC) for character in text]
        for index in range(1, len(text)):
            if numeric[index] != numeric[index - 1] or (individual and numeric[index]):
                pieces.append(text[start:index])
                start = index
        pieces.append(text[start:])
        return pieces

    def _split_gpt2(self, text: str) -> list[str]:
        """GPT-2's pattern: contractions, then words, numbers and other runs with one blank before them, then blanks."""
        classes = [self._classes[ord(character)] & _WORD for character in text]
        pieces, start, length = [], 0, len(text)
        while start < length:
            end = self._contraction_end(text, start)
            if end == start:
                head = start + 1 if text[start] == " " and start + 1 < length else start
                if classes[head] & CharClass.SPACE:
                    head = start
                end = head + 1
                while end < length and classes[end] == classes[head]:
                    end += 1
                # Blanks leave their last one to the word behind them.
                if classes[head] & CharClass.SPACE and end < length and end - start > 1:
                    end -= 1
            pieces.append(text[start:end])
            start = end
        return pieces

    def _contraction_end(self, text: str, start: int) -> int:
        if text[start] == "'":
            for contraction in _CONTRACTIONS:
                if text.startswith(contraction, start):
                    return start + len(contraction)
        return start

    # --- merges -------------------------------------------------------------------------------------------------

    @cached_property
    def _merges(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(left id, right id) -> (rank, result). A device searches the row of the left id instead."""
        lefts = np.repeat(np.arange(self.vocab_size), np.diff(self._merge_rows)).tolist()
        rights, ranks, results = self._merge_table.tolist()
        return dict(zip(zip(lefts, rights, strict=True), zip(ranks, results, strict=True), strict=True))

    def _merge(self, piece: bytes) -> list[int]:
        """Byte pair encoding: always the pair of lowest rank next, the leftmost of equals.

        Symbols are a linked list; a heap holds the pairs that can merge. An entry is out of date, and skipped, when the
        pair now at its place does not give the same result.
        """
        symbols = [self._byte_ids[byte] for byte in piece if self._byte_ids[byte] != NO_TOKEN]
        merges, count = self._merges, len(symbols)
        heap = []
        for index in range(count - 1):
            merge = merges.get((symbols[index], symbols[index + 1]))
            if merge is not None:
                heap.append((merge[0], index, merge[1]))
        if not heap:
            return symbols
        heapq.heapify(heap)
        before = list(range(-1, count - 1))
        after = list(range(1, count + 1))
        alive = [True] * count
        while heap:
            _, index, result = heapq.heappop(heap)
            right = after[index]
            if not alive[index] or right >= count:
                continue
            merge = merges.get((symbols[index], symbols[right]))
            if merge is None or merge[1] != result:
                continue
            symbols[index] = result
            alive[right] = False
            after[index] = after[right]
            if after[index] < count:
                before[after[index]] = index
                merge = merges.get((result, symbols[after[index]]))
                if merge is not None:
                    heapq.heappush(heap, (merge[0], index, merge[1]))
            if before[index] >= 0:
                merge = merges.get((symbols[before[index]], result))
                if merge is not None:
                    heapq.heappush(heap, (merge[0], before[index], merge[1]))
        return [symbol for symbol, living in zip(symbols, alive, strict=True) if living]

    # --- ids to text --------------------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of ids; malformed UTF-8 becomes U+FFFD, one per maximal subpart. Unknown ids have no text."""
        return b"".join(self.token_bytes(token, skip_special) for token in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int, skip_special: bool = False) -> bytes:
        """The bytes of one id, not always whole characters: empty if unknown, or special and these are skipped."""
        if not 0 <= token < self.vocab_size or (skip_special and self.is_special(token)):
            return b""
        return self._bytes[self._offsets[token] : self._offsets[token + 1]]

    def is_special(self, token: int) -> bool:
        """True for ids of special tokens, which are never shown to a user."""
        return 0 <= token < self.vocab_size and bool(self._flags[token] & TokenFlag.SPECIAL)


class _Matcher:
    """Finds added tokens: leftmost, the longest of those that start there, without overlap."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self._tokens = {token.content: token for token in tokens}
        longest_first = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def matches(self, text: str) -> Iterator[tuple[int, int, AddedToken]]:
        if self._pattern is not None:
            for match in self._pattern.finditer(text):
                yield match.start(), match.end(), self._tokens[match.group()]

    def cut_special(self, text: str) -> Iterator[str | AddedToken]:
        done = 0
        for start, end, token in self.matches(text):
            if token.special:
                if done < start:
                    yield text[done:start]
                yield token
                done = end
        if done < len(text):
            yield text[done:]


def _expand_classes(section: memoryview) -> bytes:
    """The class bits of every code point, from the runs in the file."""
    (count,) = struct.unpack_from("<I", section)
    starts = np.frombuffer(section, "<u4", count, 4)
    bits: NDArray[np.uint8] = np.frombuffer(section, np.uint8, count, 4 + 4 * count)
    lengths = np.diff(np.append(starts.astype(np.int64), CODE_POINTS))
    return np.repeat(bits, lengths).tobytes()


def _read_added(records: memoryview, blob: bytes) -> tuple[AddedToken, ...]:
    return tuple(
        AddedToken(token, blob[start : start + length].decode(), AddedFlag(flags))
        for token, flags, start, length in struct.iter_unpack("<IIII", records)
    )
