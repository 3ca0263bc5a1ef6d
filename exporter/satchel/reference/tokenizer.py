"""The tokenizer that a device runs, in plain Python: the definition that Kotlin and Swift must equal.

It reads `tokenizer.bin` only (docs/tokenizer-format.md) and equals Hugging Face's `tokenizers` on every text: nothing
here asks Python about Unicode, and nothing recurses or takes more than n log n steps.
"""

import heapq
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from satchel.errors import BundleError
from satchel.reference.graphemes import GraphemeBreaks
from satchel.reference.steps import Classes, Piece, Steps
from satchel.reference.token_text import TextDecoder, TextInParts
from satchel.reference.tokenizer_format import (
    NO_TOKEN,
    AddedFlag,
    Model,
    ModelFlag,
    Section,
    TokenFlag,
    unpack_sections,
    word_hash,
)

_SURROGATE = re.compile("[\ud800-\udfff]")
_CACHED_PIECES = 1 << 16
_CACHED_LENGTH = 64


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
        model, self.vocab_size, self._unknown, flags, self._longest_word = struct.unpack_from(
            "<IIIII", sections[Section.MODEL]
        )
        if model not in set(Model) or flags & ~int(ModelFlag.FUSE_UNKNOWN | ModelFlag.BYTE_FALLBACK):
            raise BundleError(f"tokenizer.bin has model {model} (flags {flags}), which this Satchel does not know")
        self._by_bytes = model == Model.BYTES
        self._fuses_unknown = bool(flags & ModelFlag.FUSE_UNKNOWN)
        self._falls_back = bool(flags & ModelFlag.BYTE_FALLBACK)
        self._flags = bytes(sections[Section.TOKEN_FLAGS])
        self._offsets = np.frombuffer(sections[Section.TOKEN_OFFSETS], "<u4").tolist()
        self._bytes = bytes(sections[Section.TOKEN_BYTES])
        self._byte_ids: list[int] = np.frombuffer(sections[Section.BYTE_IDS], "<u4").tolist()
        self._merge_rows = np.frombuffer(sections[Section.MERGE_ROWS], "<u4")
        self._merge_table = np.frombuffer(sections[Section.MERGES], "<u4").reshape(3, -1)
        self._words = np.frombuffer(sections[Section.WORDS], "<u4")
        self._classes = Classes(sections)
        self._normalizer = Steps(sections, Section.NORMALIZER, self._classes)
        self._pre_tokenizer = Steps(sections, Section.PRE_TOKENIZER, self._classes)
        self._decoder = TextDecoder(sections)
        self.grapheme_breaks = GraphemeBreaks(sections[Section.GRAPHEMES])
        self.added_tokens = _read_added(sections[Section.ADDED_TOKENS], sections[Section.ADDED_POINTS])
        self._taking_left = {token.id for token in self.added_tokens if token.flags & AddedFlag.LSTRIP}
        self._taking_right = {token.id for token in self.added_tokens if token.flags & AddedFlag.RSTRIP}
        self._first_pass = _Matcher(token for token in self.added_tokens if not token.flags & AddedFlag.NORMALIZED)
        self._second_pass = _Matcher(token for token in self.added_tokens if token.flags & AddedFlag.NORMALIZED)
        self.start_ids: tuple[int, ...] = tuple(np.frombuffer(sections[Section.START_IDS], "<u4").tolist())
        self._cache: dict[str, tuple[int, ...]] = {}

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tokenizer":
        """Reads a `tokenizer.bin`. Raises BundleError if it is none, cut short or of another version."""
        return cls(data)

    # --- text to ids --------------------------------------------------------------------------------------------

    def encode(self, text: str, special: bool, at_start: bool = True) -> list[int]:
        """The ids of a text. special=False is for text of a user: special tokens in it are ordinary characters.

        at_start: nothing stands before it; some tokenizers put a blank before the first word of all.
        Nothing is put before the ids. An unpaired surrogate counts as U+FFFD.
        """
        text = _SURROGATE.sub("\ufffd", text)
        ids: list[int] = []
        for outer in self._split_added(Piece(text, at_start), self._first_pass, special):
            if isinstance(outer, int):
                ids.append(outer)
                continue
            for normalized in self._normalizer.run(outer):
                for inner in self._split_added(normalized, self._second_pass, special):
                    if isinstance(inner, int):
                        ids.append(inner)
                    else:
                        self._encode_plain(inner, ids)
        return ids

    def encode_raw(self, text: str) -> list[int]:
        """The ids of a raw prompt: special tokens in it count, and what opens every text is put before it, unless the
        prompt opens with that itself.
        """
        ids = self.encode(text, special=True)
        start = list(self.start_ids)
        return ids if ids[: len(start)] == start else start + ids

    def cut_special(self, text: str) -> list["str | AddedToken"]:
        """A text cut at its special tokens, taken as written: the tokens and the texts between them."""
        parts: list[str | AddedToken] = [text] if text else []
        for matcher in (self._first_pass, self._second_pass):
            parts = [
                piece for part in parts for piece in (matcher.cut_special(part) if isinstance(part, str) else [part])
            ]
        return parts

    def without_taken_blanks(self, text: str, before: Sequence[int | str], after: Sequence[int | str]) -> str:
        """A text without the blanks that tokens right before and right after it take."""
        start, end = 0, len(text)
        if any(token in self._taking_right for token in before):
            while start < end and self._classes.is_blank(text[start]):
                start += 1
        if any(token in self._taking_left for token in after):
            while start < end and self._classes.is_blank(text[end - 1]):
                end -= 1
        return text[start:end]

    def _split_added(self, piece: Piece, matcher: "_Matcher", special: bool) -> Iterator[Piece | int]:
        """The text cut at added tokens: ids of tokens and the text between them."""
        text, done = piece.text, 0
        for start, end, token in matcher.matches(text):
            if token.special and not special:
                continue  # its characters stay text, and no other token is looked for inside them
            if token.flags & AddedFlag.SINGLE_WORD and (
                (start > 0 and self._classes.is_word(text[start - 1]))
                or (end < len(text) and self._classes.is_word(text[end]))
            ):
                continue
            if token.flags & AddedFlag.LSTRIP:
                while start > 0 and self._classes.is_blank(text[start - 1]):
                    start -= 1
                start = max(start, done)
            if token.flags & AddedFlag.RSTRIP:
                while end < len(text) and self._classes.is_blank(text[end]):
                    end += 1
            if done < start:
                yield Piece(text[done:start], piece.at_start and done == 0)
            yield token.id
            done = end
        if done < len(text):
            yield Piece(text[done:], piece.at_start and done == 0)

    def _encode_plain(self, piece: Piece, ids: list[int]) -> None:
        for part in self._pre_tokenizer.run(piece):
            merged = self._cache.get(part.text)
            if merged is None:
                merged = tuple(self._encode_piece(part.text))
                if len(part.text) <= _CACHED_LENGTH and len(self._cache) < _CACHED_PIECES:
                    self._cache[part.text] = merged
            ids.extend(merged)

    def _encode_piece(self, text: str) -> list[int]:
        raw = text.encode()
        word = self._word(raw)
        if word is not None:
            return [word]
        symbols = [self._byte_ids[byte] for byte in raw] if self._by_bytes else self._characters(text)
        return self._merge(self._with_unknown(symbols))

    def _word(self, key: bytes) -> int | None:
        """The token that a piece of these bytes becomes as a whole, from the file's hash table."""
        if len(key) > self._longest_word:
            return None
        mask = len(self._words) - 1
        place = word_hash(key) & mask
        while (token := int(self._words[place])) != NO_TOKEN:
            if self._bytes[self._offsets[token] : self._offsets[token + 1]] == key:
                return token
            place = (place + 1) & mask
        return None

    def _characters(self, text: str) -> list[int]:
        """The token of each character, or the tokens of its bytes; NO_TOKEN where there is neither."""
        symbols: list[int] = []
        for character in text:
            raw = character.encode()
            token = self._word(raw)
            if token is None and self._falls_back:
                symbols += [self._byte_ids[byte] for byte in raw]
            else:
                symbols.append(NO_TOKEN if token is None else token)
        return symbols

    def _with_unknown(self, symbols: list[int]) -> list[int]:
        """Symbols without a token become the unknown token, several in a row one if they are fused, or are dropped."""
        if self._unknown == NO_TOKEN:
            return [symbol for symbol in symbols if symbol != NO_TOKEN]
        result: list[int] = []
        before = 0
        for symbol in symbols:
            if symbol != NO_TOKEN:
                result.append(symbol)
            elif before != NO_TOKEN or not self._fuses_unknown:
                result.append(self._unknown)
            before = symbol
        return result

    # --- merges -------------------------------------------------------------------------------------------------

    @cached_property
    def _merges(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(left id, right id) -> (rank, result). A device searches the row of the left id instead."""
        lefts = np.repeat(np.arange(self.vocab_size), np.diff(self._merge_rows)).tolist()
        rights, ranks, results = self._merge_table.tolist()
        return dict(zip(zip(lefts, rights, strict=True), zip(ranks, results, strict=True), strict=True))

    def _merge(self, symbols: list[int]) -> list[int]:
        """Byte pair encoding: always the pair of lowest rank next, the leftmost of equals.

        Symbols are a linked list; a heap holds the pairs that can merge. An entry is out of date, and skipped, when the
        pair now at its place does not give the same result.
        """
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
        """The text of ids; what is malformed becomes U+FFFD. Unknown ids have no text."""
        text = self.begin_text()
        parts = [self.add_token(text, token, skip_special) for token in ids]
        return "".join(parts) + text.end()

    def begin_text(self) -> TextInParts:
        """A text that takes tokens one by one, with `add_token`."""
        return self._decoder.begin()

    def add_token(self, text: TextInParts, token: int, skip_special: bool) -> str:
        """What one more id adds to a text: whole characters only."""
        if not self._is_present(token) or (skip_special and self.is_special(token)):
            return ""
        return text.add(self.token_bytes(token), TokenFlag(self._flags[token]))

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id as they stand in the file; empty for an id that only the model's padded table has."""
        if not 0 <= token < self.vocab_size:
            return b""
        return self._bytes[self._offsets[token] : self._offsets[token + 1]]

    def is_special(self, token: int) -> bool:
        """True for ids of special tokens, which are never shown to a user."""
        return self._is_present(token) and bool(self._flags[token] & TokenFlag.SPECIAL)

    def _is_present(self, token: int) -> bool:
        return 0 <= token < self.vocab_size and bool(self._flags[token] & TokenFlag.PRESENT)


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


def _read_added(records: memoryview, points: memoryview) -> tuple[AddedToken, ...]:
    """The added tokens by id."""
    texts = bytes(points).decode("utf-32-le")
    tokens = (
        AddedToken(token, texts[start : start + length], AddedFlag(flags))
        for token, flags, start, length in struct.iter_unpack("<IIII", records)
    )
    return tuple(sorted(tokens, key=lambda token: token.id))
