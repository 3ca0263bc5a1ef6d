"""Runs the steps of a normalizer or pre-tokenizer that compile/steps.py made: the definition for Kotlin and Swift.

A text is a list of pieces; every step gives a new list. Nothing here asks Python about Unicode.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from satchel.errors import BundleError
from satchel.reference.tokenizer_format import (
    CODE_POINTS,
    HANGUL_BASE,
    HANGUL_COUNT,
    INVERTED,
    LEAD_BASE,
    LEAD_COUNT,
    TRAIL_BASE,
    TRAIL_COUNT,
    VOWEL_BASE,
    VOWEL_COUNT,
    Behaviour,
    CharClass,
    Op,
    Prepend,
    Section,
    Trim,
)

_DEAD, _START = 0, 1
_HANGUL_PER_LEAD = VOWEL_COUNT * TRAIL_COUNT


@dataclass(frozen=True)
class Piece:
    """A part of a text; at_start: nothing of the text lies before it."""

    text: str
    at_start: bool


class Classes:
    """The class of every code point, and what the classes are to added tokens."""

    def __init__(self, sections: Mapping[int, memoryview]) -> None:
        pages = CODE_POINTS >> 8
        page_of = np.frombuffer(sections[Section.CLASS_PAGES], "<u2", pages)
        table = np.frombuffer(sections[Section.CLASS_PAGES], np.uint8, offset=2 * pages).reshape(-1, 256)
        self.of_point = table[page_of].tobytes()
        self._bits = bytes(sections[Section.CLASSES])

    def is_blank(self, character: str) -> bool:
        return bool(self._bits[self.of_point[ord(character)]] & CharClass.BLANK)

    def is_word(self, character: str) -> bool:
        return bool(self._bits[self.of_point[ord(character)]] & CharClass.WORD)


class Steps:
    """The steps of one section, in order. Raises BundleError for an operation that is not known."""

    def __init__(self, sections: Mapping[int, memoryview], section: Section, classes: Classes) -> None:
        self._classes = classes
        self._texts = read_texts(sections[Section.TEXTS])
        self._automata = _read_automata(sections[Section.AUTOMATA])
        self._steps = list(struct.iter_unpack("<III", sections[section]))
        for op, _, _ in self._steps:
            if op not in set(Op):
                raise BundleError(f"tokenizer.bin has the operation {op}, which this Satchel does not know")
        self._canonical = Canonical(sections[Section.CANONICAL]) if Section.CANONICAL in sections else None

    def run(self, piece: Piece) -> list[Piece]:
        """The pieces that come out; none of them is empty."""
        pieces = [piece]
        for op, first, second in self._steps:
            pieces = [part for each in pieces for part in self._step(op, first, second, each) if part.text]
        return pieces

    def _step(self, op: int, first: int, second: int, piece: Piece) -> Sequence[Piece]:
        text = piece.text
        if op == Op.NFC:
            assert self._canonical is not None
            return [Piece(self._canonical.compose(text), piece.at_start)]
        if op == Op.REPLACE:
            content = self._texts[second]
            parts = (content if matched else text[start:end] for start, end, matched in self._matches(first, text))
            return [Piece("".join(parts), piece.at_start)]
        if op == Op.PREPEND:
            there = text.startswith(self._texts[first])
            wanted = second == Prepend.ALL or (not there and (second == Prepend.UNLESS_THERE or piece.at_start))
            return [Piece(self._texts[first] + text, piece.at_start)] if wanted else [piece]
        if op == Op.TRIM:
            start, end = 0, len(text)
            while first & Trim.LEFT and start < end and self._classes.is_blank(text[start]):
                start += 1
            while first & Trim.RIGHT and start < end and self._classes.is_blank(text[end - 1]):
                end -= 1
            return [Piece(text[start:end], piece.at_start and start == 0)]
        matches = list(self._matches(first, text))
        return [
            Piece(text[start:end], piece.at_start and start == 0)
            for start, end in split(matches, Behaviour(second % INVERTED), inverted=second >= INVERTED)
        ]

    def _matches(self, automaton: int, text: str) -> Iterator[tuple[int, int, bool]]:
        """All of a text in order: (start, end, True) for a match, (start, end, False) for what lies between."""
        of_point, (columns, table) = self._classes.of_point, self._automata[automaton]
        classes = [of_point[ord(character)] for character in text]
        classes.append(columns - 1)  # the end of the text
        done = start = 0
        while start < len(text):
            state, place, end = _START, start, start
            while True:
                entry = table[state * columns + classes[place]]
                if entry & 1:
                    end = place
                state = entry >> 1
                if state == _DEAD:
                    break
                place += 1
            if end == start:
                start += 1
                continue
            if done < start:
                yield done, start, False
            yield start, end, True
            done = start = end
        if done < len(text):
            yield done, len(text), False


def split(
    matches: Sequence[tuple[int, int, bool]], behaviour: Behaviour, inverted: bool = False
) -> list[tuple[int, int]]:
    """Where a text is cut: (start, end) of its pieces. `matches` cover the text without gaps."""
    pieces: list[tuple[int, int]] = []
    before = False
    if behaviour == Behaviour.MERGED_WITH_NEXT:
        for start, end, matched in reversed(matches):
            if matched != inverted and not before and pieces:
                pieces[-1] = (start, pieces[-1][1])
            else:
                pieces.append((start, end))
            before = matched != inverted
        return pieces[::-1]
    for start, end, matched in matches:
        found = matched != inverted
        joins = (behaviour == Behaviour.MERGED_WITH_PREVIOUS and found and not before) or (
            behaviour == Behaviour.CONTIGUOUS and found == before
        )
        if joins and pieces:
            pieces[-1] = (pieces[-1][0], end)
        elif not (behaviour == Behaviour.REMOVED and found):
            pieces.append((start, end))
        before = found
    return pieces


class Canonical:
    """Canonical composition by the tables of the file (Unicode standard, 3.11 and 3.12)."""

    def __init__(self, section: memoryview) -> None:
        numbers: list[int] = np.frombuffer(section, "<u4").tolist()
        count, marks, pairs = numbers[:3]
        place = 3

        def take(length: int) -> list[int]:
            nonlocal place
            place += length
            return numbers[place - length : place]

        points, offsets = take(count), take(count + 1)
        parts = take(offsets[-1])
        self._decomposed = {
            point: parts[start:end] for point, start, end in zip(points, offsets, offsets[1:], strict=False)
        }
        self._combining = dict(zip(take(marks), take(marks), strict=True))
        firsts, seconds, results = take(pairs), take(pairs), take(pairs)
        self._composed = dict(zip(zip(firsts, seconds, strict=True), results, strict=True))

    def compose(self, text: str) -> str:
        """The text in NFC."""
        points: list[int] = []
        for character in text:
            points += self._decompose(ord(character))
        self._sort_marks(points)
        return "".join(map(chr, self._join(points)))

    def _decompose(self, point: int) -> Sequence[int]:
        syllable = point - HANGUL_BASE
        if 0 <= syllable < HANGUL_COUNT:
            lead, rest = divmod(syllable, _HANGUL_PER_LEAD)
            vowel, trail = divmod(rest, TRAIL_COUNT)
            parts = (LEAD_BASE + lead, VOWEL_BASE + vowel)
            return (*parts, TRAIL_BASE + trail) if trail else parts
        return self._decomposed.get(point, (point,))

    def _sort_marks(self, points: list[int]) -> None:
        """Each run of marks by their class, equal ones in their order."""
        combining, start = self._combining, 0
        while start < len(points):
            if points[start] not in combining:
                start += 1
                continue
            end = start
            while end < len(points) and points[end] in combining:
                end += 1
            points[start:end] = sorted(points[start:end], key=combining.__getitem__)
            start = end

    def _join(self, points: Sequence[int]) -> list[int]:
        """Each mark, or character right behind, that makes one character with the starter before it is put into it."""
        result: list[int] = []
        starter, last = -1, 0  # place of the starter in result; class of what was put last
        for point in points:
            value = self._combining.get(point, 0)
            reachable = starter >= 0 and (starter == len(result) - 1 or last < value)
            joined = self._pair(result[starter], point) if reachable else None
            if joined is not None:
                result[starter] = joined
                continue
            if value == 0:
                starter = len(result)
            last = value
            result.append(point)
        return result

    def _pair(self, first: int, second: int) -> int | None:
        if 0 <= first - LEAD_BASE < LEAD_COUNT and 0 <= second - VOWEL_BASE < VOWEL_COUNT:
            return HANGUL_BASE + ((first - LEAD_BASE) * VOWEL_COUNT + second - VOWEL_BASE) * TRAIL_COUNT
        syllable = first - HANGUL_BASE
        if 0 <= syllable < HANGUL_COUNT and syllable % TRAIL_COUNT == 0 and 0 < second - TRAIL_BASE < TRAIL_COUNT:
            return first + second - TRAIL_BASE
        return self._composed.get((first, second))


def read_texts(section: memoryview) -> list[str]:
    """The texts that steps name by number."""
    (count,) = struct.unpack_from("<I", section)
    offsets = struct.unpack_from(f"<{count + 1}I", section, 4)
    texts = bytes(section[8 + 4 * count :])
    return [texts[start:end].decode() for start, end in pairwise(offsets)]


def _read_automata(section: memoryview) -> list[tuple[int, list[int]]]:
    """(number of columns, table row by row) of each automaton."""
    count, columns = struct.unpack_from("<II", section)
    starts = [*struct.unpack_from(f"<{count}I", section, 8)]
    table = np.frombuffer(section, "<u2", offset=8 + 4 * count).tolist()
    return [(columns, table[start:end]) for start, end in zip(starts, [*starts[1:], len(table)], strict=False)]
