"""Compiles a pattern of a tokenizer.json into a deterministic automaton over character classes.

Devices have no regex engine that is the same everywhere, so a pattern travels as a table. It finds what a backtracking
engine finds: the leftmost match, of the alternatives that start there the first that fits, each repeat as long as it
can be. The way to it is the usual one (Thompson's program, then sets of its threads in order of preference; R. Cox,
"Regular Expression Matching: the Virtual Machine Approach"). A look-ahead sees one character, so it is decided by the
class of the character that is read next.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from satchel.compile.unicode_classes import CharacterSet, ignoring_case, property_set
from satchel.errors import TokenizerError

DEAD, START = 0, 1
MAX_STATES = 4096
_MAX_REPEATS = 64

Mask = NDArray[np.bool_]


# --- syntax -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Characters:
    """One character of a set."""

    set: CharacterSet


@dataclass(frozen=True)
class Ahead:
    """Takes nothing: the next character is (or, negative, is not) of the set. At the end of a text there is none."""

    set: CharacterSet
    negative: bool


@dataclass(frozen=True)
class Chain:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    part: "Node"
    least: int
    most: int | None


Node = Characters | Ahead | Chain | Choice | Repeat


def literal(text: str) -> Node:
    """The pattern that matches exactly this text."""
    return Chain(tuple(Characters(CharacterSet.of(character)) for character in text))


def parse(pattern: str) -> Node:
    """The syntax tree of a pattern. Raises TokenizerError, naming the construct, for what is not represented."""
    return _Parser(pattern).parse()


class _Parser:
    """Recursive descent over the part of Oniguruma's syntax that pre-tokenizers use."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._place = 0

    def parse(self) -> Node:
        node = self._choice(ignore_case=False)
        if self._place < len(self._pattern):
            raise self._refuse("an unbalanced )")
        return node

    def _refuse(self, construct: str) -> TokenizerError:
        return TokenizerError(
            f"the tokenizer's pattern {self._pattern!r} uses {construct}, which tokenizer.bin can't represent exactly"
        )

    def _take(self, text: str) -> bool:
        if self._pattern.startswith(text, self._place):
            self._place += len(text)
            return True
        return False

    def _next(self) -> str:
        if self._place >= len(self._pattern):
            raise self._refuse("an unfinished expression")
        self._place += 1
        return self._pattern[self._place - 1]

    def _choice(self, ignore_case: bool) -> Node:
        parts = [self._sequence(ignore_case)]
        while self._take("|"):
            parts.append(self._sequence(ignore_case))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self, ignore_case: bool) -> Node:
        parts: list[Node] = []
        while self._place < len(self._pattern) and self._pattern[self._place] not in "|)":
            parts.append(self._repeated(self._item(ignore_case)))
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def _repeated(self, node: Node) -> Node:
        counted = re.compile(r"\{(\d+)(,(\d*))?\}").match(self._pattern, self._place)
        least, most = 0, None
        if counted:
            self._place = counted.end()
            least = int(counted[1])
            most = least if counted[2] is None else int(counted[3]) if counted[3] else None
        elif self._take("?"):
            most = 1
        elif self._take("+"):
            least = 1
        elif not self._take("*"):
            return node
        if isinstance(node, Ahead):
            raise self._refuse("a repeated look-ahead")
        if max(least, most or 0) > _MAX_REPEATS or (most is not None and most < least):
            raise self._refuse(f"the repeat {{{least},{most}}}")
        if self._pattern[self._place : self._place + 1] in ("?", "+", "*", "{"):
            raise self._refuse("a lazy, possessive or nested repeat")
        return Repeat(node, least, most)

    def _item(self, ignore_case: bool) -> Node:
        if self._take("(?!"):
            return self._ahead(negative=True)
        if self._take("(?="):
            return self._ahead(negative=False)
        for opening, inside in (("(?i:", True), ("(?:", ignore_case)):
            if self._take(opening):
                return self._closed(self._choice(inside))
        if self._take("(?"):
            raise self._refuse(f"the group (?{self._next()}")
        if self._take("("):
            return self._closed(self._choice(ignore_case))
        if self._take("["):
            characters = self._bracket()
        elif self._take("\\"):
            characters = self._escape()
        else:
            character = self._next()
            if character in ".^$*+?{}":
                raise self._refuse(f"the sign {character}")
            characters = CharacterSet.of(character)
        return Characters(self._any_case(characters) if ignore_case else characters)

    def _closed(self, node: Node) -> Node:
        if not self._take(")"):
            raise self._refuse("an unbalanced (")
        return node

    def _ahead(self, negative: bool) -> Node:
        inside = self._closed(self._choice(ignore_case=False))
        if not isinstance(inside, Characters):
            raise self._refuse("a look-ahead over more than one character")
        return Ahead(inside.set, negative)

    def _any_case(self, characters: CharacterSet) -> CharacterSet:
        folded = ignoring_case(characters)
        if folded is None:
            raise self._refuse("(?i: with anything but single characters of ASCII")
        return folded

    def _escape(self) -> CharacterSet:
        sign = self._next()
        if sign in "pP":
            name = re.compile(r"\{(\^?)(\w+)\}").match(self._pattern, self._place)
            if not name:
                raise self._refuse(f"\\{sign} without a name in braces")
            self._place = name.end()
            return property_set(rf"\p{{{name[2]}}}", negative=(sign == "P") != bool(name[1]))
        if sign in "sSdDwW":
            return property_set("\\" + sign.lower(), negative=sign.isupper())
        if sign in _CONTROLS:
            return CharacterSet.of(_CONTROLS[sign])
        if sign.isalnum():
            raise self._refuse(f"the escape \\{sign}")
        return CharacterSet.of(sign)

    def _bracket(self) -> CharacterSet:
        negative = self._take("^")
        members = CharacterSet.of("")
        first = True
        while first or not self._take("]"):
            first = False
            if self._take("["):
                raise self._refuse("a set inside a set")
            if self._take("&&"):
                raise self._refuse("an intersection of sets")
            member = self._escape() if self._take("\\") else CharacterSet.of(self._next())
            if member.single is not None and self._range_follows():
                self._place += 1
                last = self._escape() if self._take("\\") else CharacterSet.of(self._next())
                if last.single is None or last.single < member.single:
                    raise self._refuse("a range whose ends are not two characters in order")
                member = CharacterSet.between(member.single, last.single)
            members |= member
        return ~members if negative else members

    def _range_follows(self) -> bool:
        behind = self._pattern[self._place : self._place + 2]
        return len(behind) == 2 and behind[0] == "-" and behind[1] != "]"


_CONTROLS = {"r": "\r", "n": "\n", "t": "\t", "f": "\f", "v": "\v"}


# --- program ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Take:
    """Goes on if the character is of set number `set`, and takes it."""

    set: int


@dataclass(frozen=True)
class Look:
    """Goes on if the next character is (negative: is not) of set number `set`."""

    set: int
    negative: bool


@dataclass(frozen=True)
class Fork:
    """Goes on at several places, the one preferred first."""

    targets: tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """The text so far is a match."""


Instruction = Take | Look | Fork | Match


@dataclass
class Program:
    """A pattern as instructions of threads. `sets` are all sets that they ask for, without doubles."""

    instructions: list[Instruction] = field(default_factory=list)
    sets: list[CharacterSet] = field(default_factory=list)

    def set_index(self, characters: CharacterSet) -> int:
        if characters not in self.sets:
            self.sets.append(characters)
        return self.sets.index(characters)


def assemble(node: Node) -> Program:
    """The program of a syntax tree."""
    program = Program()
    _emit(program, node)
    program.instructions.append(Match())
    return program


def _emit(program: Program, node: Node) -> None:
    code = program.instructions
    match node:
        case Characters(characters):
            code.append(Take(program.set_index(characters)))
        case Ahead(characters, negative):
            code.append(Look(program.set_index(characters), negative))
        case Chain(parts):
            for part in parts:
                _emit(program, part)
        case Choice(parts):
            fork = _placeholder(code)
            starts, ends = [], []
            for part in parts:
                starts.append(len(code))
                _emit(program, part)
                ends.append(_placeholder(code))
            code[fork] = Fork(tuple(starts))
            for end in ends:
                code[end] = Fork((len(code),))
        case Repeat(part, least, most):
            for _ in range(least):
                _emit(program, part)
            if most is None:
                fork = _placeholder(code)
                _emit(program, part)
                code.append(Fork((fork,)))
                code[fork] = Fork((fork + 1, len(code)))
            else:
                forks = []
                for _ in range(most - least):
                    forks.append(_placeholder(code))
                    _emit(program, part)
                for fork in forks:
                    code[fork] = Fork((fork + 1, len(code)))


def _placeholder(code: list[Instruction]) -> int:
    """A fork whose targets are not known yet."""
    code.append(Fork(()))
    return len(code) - 1


# --- automaton --------------------------------------------------------------------------------------------------


def determinize(program: Program, classes: int, members: Sequence[Mask], named: str) -> NDArray[np.uint16]:
    """The table of an automaton: uint16 [states, classes + 1], the last column for the end of a text.

    members[i]: bool [classes], which classes the program's set i holds. An entry is 2 * next state + 1 if a match ends
    before the character just looked at; state 0 is dead, 1 the start. Raises TokenizerError, naming the pattern, if it
    can match nothing at all, or makes a search that is not linear in the length of a text.
    """
    end = classes

    def holds(index: int, character: int) -> bool:
        return character != end and bool(members[index][character])

    def threads(state: tuple[int, ...], character: int) -> tuple[list[tuple[int, Take]], bool]:
        """The instructions that want a character, by preference, down to the first thread that has matched."""
        found: list[tuple[int, Take]] = []
        seen: set[int] = set()
        stack = list(reversed(state))
        while stack:
            place = stack.pop()
            if place in seen:
                continue
            seen.add(place)
            match program.instructions[place]:
                case Match():
                    return found, True
                case Fork(targets):
                    stack.extend(reversed(targets))
                case Look(index, negative):
                    if holds(index, character) != negative:
                        stack.append(place + 1)
                case Take() as take:
                    found.append((place, take))
        return found, False

    states: dict[tuple[int, ...], int] = {(): DEAD, (0,): START}
    todo: list[tuple[int, ...]] = [(0,)]
    rows: list[list[int]] = [[0] * (classes + 1), []]
    while todo:
        state = todo.pop()
        row = []
        for character in range(classes + 1):
            wanting, matched = threads(state, character)
            target = tuple(dict.fromkeys(place + 1 for place, take in wanting if holds(take.set, character)))
            if target not in states:
                states[target] = len(states)
                rows.append([])
                todo.append(target)
                if len(states) > MAX_STATES:
                    raise TokenizerError(f"the tokenizer's {named} needs more than {MAX_STATES} states")
            row.append(2 * states[target] + matched)
        rows[states[state]] = row
    table = np.array(rows, dtype=np.uint16)
    if (table[START] & 1).any():
        raise TokenizerError(f"the tokenizer's {named} matches an empty text, which tokenizer.bin can't represent")
    if _reads_again_and_again(table):
        raise TokenizerError(f"the tokenizer's {named} can take quadratic time, which tokenizer.bin can't represent")
    return table


def _reads_again_and_again(table: NDArray[np.uint16]) -> bool:
    """Whether a search can read on and on without a match, and so can the search that starts over behind its match.

    The first is harmless alone: in GPT-2's family a line end makes the automaton look through all blanks behind it for
    another one, but the next search takes those blanks. Looked at: all pairs of states that a silent search and one
    begun inside of it can be in after reading the same characters; a cycle in which both are silent is the bad case.
    """
    next_states, matched = table >> 1, (table & 1).astype(bool)

    def silent_steps(first: int, second: int) -> Iterator[tuple[tuple[int, int], bool]]:
        for column in np.flatnonzero((next_states[first] != DEAD) & ~matched[first] & (next_states[second] != DEAD)):
            pair = (int(next_states[first, column]), int(next_states[second, column]))
            yield pair, not matched[second, column]

    todo = [(state, START) for state in range(START, len(table))]
    both_silent: dict[tuple[int, int], set[tuple[int, int]]] = {}
    while todo:
        pair = todo.pop()
        if pair not in both_silent:
            steps = list(silent_steps(*pair))
            both_silent[pair] = {target for target, silent in steps if silent}
            todo += [target for target, _ in steps]
    return _has_cycle(both_silent)


def _has_cycle(graph: Mapping[tuple[int, int], set[tuple[int, int]]]) -> bool:
    """Takes away what nothing leads to until only cycles, and what they lead to, are left."""
    incoming = dict.fromkeys(graph, 0)
    for targets in graph.values():
        for target in targets:
            incoming[target] += 1
    free = [node for node, count in incoming.items() if count == 0]
    left = len(graph)
    while free:
        left -= 1
        for target in graph[free.pop()]:
            incoming[target] -= 1
            if incoming[target] == 0:
                free.append(target)
    return left > 0
