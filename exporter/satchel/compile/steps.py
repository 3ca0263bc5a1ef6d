"""Compiles the normalizer, the pre-tokenizer and the decoder of a tokenizer.json into steps that are pure data.

Every pattern becomes an automaton, every set of characters a share in one table of classes. What a step can't represent
exactly is refused by name.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from satchel.compile.automaton import (
    Chain,
    Characters,
    Choice,
    Node,
    Program,
    Repeat,
    assemble,
    determinize,
    literal,
    parse,
)
from satchel.compile.unicode_classes import (
    CharacterSet,
    blank_set,
    numeric_set,
    partition,
    punctuation_set,
    word_set,
)
from satchel.errors import TokenizerError
from satchel.reference.tokenizer_format import (
    CODE_POINTS,
    INVERTED,
    Behaviour,
    CharClass,
    DecoderOp,
    Op,
    Prepend,
    Section,
    Trim,
)

Json = Mapping[str, Any]
Step = tuple[int, int, int]

# The pattern that ByteLevel has inside (GPT-2's).
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_BEHAVIOURS = {
    "isolated": Behaviour.ISOLATED,
    "removed": Behaviour.REMOVED,
    "mergedwithprevious": Behaviour.MERGED_WITH_PREVIOUS,
    "mergedwithnext": Behaviour.MERGED_WITH_NEXT,
    "contiguous": Behaviour.CONTIGUOUS,
}


def refuse(construct: str) -> TokenizerError:
    """The error for a construct of a tokenizer.json."""
    return TokenizerError(f"the tokenizer uses {construct}, which tokenizer.bin can't represent exactly")


def kind(component: Json) -> str:
    """A component's name for an error message; a sequence names its parts."""
    parts = component.get("normalizers") or component.get("pretokenizers") or component.get("processors")
    parts = parts or component.get("decoders")
    name = str(component.get("type"))
    return f"{name}({', '.join(kind(part) for part in parts)})" if parts else name


class Steps:
    """Collects the steps of a tokenizer, with the texts and automata that they name by number."""

    def __init__(self) -> None:
        self.normalizer: list[Step] = []
        self.pre_tokenizer: list[Step] = []
        self.decoder: list[Step] = []
        self.uses_words = False  # single_word tokens ask for it
        self._texts: list[bytes] = []
        self._programs: list[tuple[str, Program]] = []

    # --- normalizer ---------------------------------------------------------------------------------------------

    def add_normalizer(self, normalizer: Json | None) -> None:
        for part in _parts(normalizer, "normalizers"):
            match part.get("type"):
                case "NFC":
                    self.normalizer.append((Op.NFC, 0, 0))
                case "Prepend":
                    self.normalizer.append((Op.PREPEND, self._text(part["prepend"]), Prepend.ALL))
                case "Replace":
                    self.normalizer.append(self._replace(_pattern(part), part["content"]))
                case "Strip":
                    ends = (Trim.LEFT if part["strip_left"] else 0) | (Trim.RIGHT if part["strip_right"] else 0)
                    if ends:
                        self.normalizer.append((Op.TRIM, ends, 0))
                case _:
                    raise refuse(f"the normalizer {kind(normalizer or part)}")

    # --- pre-tokenizer ------------------------------------------------------------------------------------------

    def add_pre_tokenizer(self, pre_tokenizer: Json | None) -> bool:
        """Adds the steps and tells whether they end with the turn into bytes."""
        parts = _parts(pre_tokenizer, "pretokenizers")
        for index, part in enumerate(parts):
            match part.get("type"):
                case "ByteLevel":
                    self._byte_level(part)
                    if index + 1 < len(parts):
                        raise refuse("the pre-tokenizer ByteLevel before others")
                    return True
                case "Digits":
                    individual = bool(part.get("individual_digits"))
                    runs = Behaviour.ISOLATED if individual else Behaviour.CONTIGUOUS
                    self._split("Digits", Characters(numeric_set()), runs)
                case "Punctuation":
                    self._split("Punctuation", Characters(punctuation_set()), _behaviour(part))
                case "WhitespaceSplit":
                    self._split("WhitespaceSplit", Characters(blank_set()), Behaviour.REMOVED)
                case "Split":
                    behaviour = _behaviour(part) | (INVERTED if part.get("invert") else 0)
                    self._split(f"pattern {part['pattern']}", _pattern(part), behaviour)
                case "Metaspace":
                    self._metaspace(part)
                case _:
                    raise refuse(f"the pre-tokenizer {kind(part)}")
        return False

    def _byte_level(self, part: Json) -> None:
        if part.get("add_prefix_space", True):
            self.pre_tokenizer.append((Op.PREPEND, self._text(" "), Prepend.UNLESS_THERE))
        if part.get("use_regex", True):
            self._split("pattern of ByteLevel", parse(GPT2), Behaviour.ISOLATED)

    def _metaspace(self, part: Json) -> None:
        blank = part["replacement"]
        self.pre_tokenizer.append(self._replace(literal(" "), blank))
        scheme = part.get("prepend_scheme", "always")
        if scheme == "first" and any(op in (Op.TRIM, Op.REPLACE) for op, _, _ in self.normalizer):
            raise refuse("Metaspace with prepend_scheme first behind a normalizer that moves the start of a text")
        if scheme != "never":
            mode = Prepend.UNLESS_THERE_AT_START if scheme == "first" else Prepend.UNLESS_THERE
            self.pre_tokenizer.append((Op.PREPEND, self._text(blank), mode))
        if part.get("split", True):
            self._split("Metaspace", literal(blank), Behaviour.MERGED_WITH_NEXT)

    def add_safe_cuts(self, blank: str, before: str) -> None:
        """Cuts in front of each `blank` but behind another one and behind the characters of `before`.

        For vocabularies in which no merge can ever reach over such a place: the ids stay the same, and a text without a
        pre-tokenizer need not be merged as one piece.
        """
        stop = CharacterSet.of(blank)
        open_ended = CharacterSet.of(before)
        blanks = Characters(stop)
        other = Choice((Characters(~(stop | open_ended)), Chain((Characters(open_ended), Repeat(blanks, 0, None)))))
        others = Repeat(other, 0, None)
        whole = Choice((Chain((Repeat(blanks, 1, None), others)), Repeat(other, 1, None)))
        self._split("cuts", whole, Behaviour.ISOLATED)

    # --- decoder ------------------------------------------------------------------------------------------------

    def add_decoder(self, decoder: Json | None) -> None:
        if decoder is None:
            raise refuse("no decoder")
        parts = _parts(decoder, "decoders")
        if any(part.get("type") == "ByteLevel" for part in parts):
            if len(parts) > 1:
                raise refuse(f"the decoder {kind(decoder)}")
            self.decoder.append((DecoderOp.BYTES, 0, 0))
            return
        fused = False
        for part in parts:
            done = {op for op, _, _ in self.decoder}
            match part.get("type"):
                case "Replace" if not fused and DecoderOp.BYTE_FALLBACK not in done and "String" in part["pattern"]:
                    pattern, content = part["pattern"]["String"], part["content"]
                    self.decoder.append((DecoderOp.REPLACE, self._text(pattern), self._text(content)))
                case "ByteFallback" if not fused and DecoderOp.BYTE_FALLBACK not in done:
                    self.decoder.append((DecoderOp.BYTE_FALLBACK, 0, 0))
                case "Fuse":
                    fused = True
                case "Strip" if fused and part["stop"] == 0 and DecoderOp.STRIP_START not in done:
                    self.decoder.append((DecoderOp.STRIP_START, self._text(part["content"]), part["start"]))
                case "Metaspace" if not done and not fused:
                    dropped = part.get("prepend_scheme", "always") != "never"
                    self.decoder.append((DecoderOp.METASPACE, self._text(part["replacement"]), int(dropped)))
                case _:
                    raise refuse(f"the decoder {kind(decoder)}")

    # --- parts of steps -----------------------------------------------------------------------------------------

    def _text(self, text: str) -> int:
        raw = text.encode()
        if raw not in self._texts:
            self._texts.append(raw)
        return self._texts.index(raw)

    def _automaton(self, named: str, node: Node) -> int:
        self._programs.append((named, assemble(node)))
        return len(self._programs) - 1

    def _replace(self, node: Node, content: str) -> Step:
        return (Op.REPLACE, self._automaton(f"pattern that becomes {content!r}", node), self._text(content))

    def _split(self, named: str, node: Node, behaviour: int) -> None:
        self.pre_tokenizer.append((Op.SPLIT, self._automaton(named, node), behaviour))

    # --- sections -----------------------------------------------------------------------------------------------

    def sections(self) -> list[tuple[Section, bytes]]:
        """Everything collected, packed. Raises TokenizerError for patterns that can't be represented."""
        asked = list(dict.fromkeys(each for _, program in self._programs for each in program.sets))
        words = word_set() if self.uses_words else CharacterSet.of("")
        of_point, members = partition([*asked, blank_set(), words])
        classes = len(members[0])
        bits = members[-2] * np.uint8(CharClass.BLANK) | members[-1] * np.uint8(CharClass.WORD)
        holds = dict(zip(asked, members, strict=False))
        tables = [
            determinize(program, classes, [holds[each] for each in program.sets], named)
            for named, program in self._programs
        ]
        starts = np.cumsum([0, *(table.size for table in tables)])
        offsets = np.cumsum([0, *(len(text) for text in self._texts)])
        pages, page_of = np.unique(of_point.reshape(CODE_POINTS >> 8, 256), axis=0, return_inverse=True)
        return [
            (Section.NORMALIZER, _pack_steps(self.normalizer)),
            (Section.PRE_TOKENIZER, _pack_steps(self.pre_tokenizer)),
            (Section.DECODER, _pack_steps(self.decoder)),
            (Section.TEXTS, struct.pack(f"<{len(offsets) + 1}I", len(self._texts), *offsets) + b"".join(self._texts)),
            (
                Section.AUTOMATA,
                struct.pack(f"<{len(tables) + 2}I", len(tables), classes + 1, *starts[:-1])
                + b"".join(table.astype("<u2").tobytes() for table in tables),
            ),
            (Section.CLASS_PAGES, page_of.reshape(-1).astype("<u2").tobytes() + pages.tobytes()),
            (Section.CLASSES, bits.astype(np.uint8).tobytes()),
        ]


def _parts(component: Json | None, key: str) -> Sequence[Json]:
    """The components of a sequence, also of sequences inside of it, or the one component there is."""
    if component is None:
        return []
    if component.get("type") != "Sequence":
        return [component]
    return [part for inner in component[key] for part in _parts(inner, key)]


def _pattern(part: Json) -> Node:
    pattern = part["pattern"]
    return literal(pattern["String"]) if "String" in pattern else parse(pattern["Regex"])


def _behaviour(part: Json) -> int:
    name = part.get("behavior", "isolated")
    behaviour = _BEHAVIOURS.get(str(name).lower().replace("_", ""))
    if behaviour is None:
        raise refuse(f"the split behavior {name!r}")
    return behaviour


def _pack_steps(steps: Sequence[Step]) -> bytes:
    return b"".join(struct.pack("<III", *step) for step in steps)
