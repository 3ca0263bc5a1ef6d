"""Compiles a Hugging Face `tokenizer.json` into the compact `tokenizer.bin` that devices read.

Whatever the format can't represent exactly is refused by name; nothing is approximated. What is represented: BPE over
bytes or over characters (SentencePiece's kind, with byte fallback), and the normalizers, pre-tokenizers and decoders of
steps_compiler.py.
"""

import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from satchel.compile.graphemes import grapheme_section
from satchel.compile.steps import Steps, kind, refuse
from satchel.compile.unicode_classes import unicode_versions
from satchel.compile.unicode_normalization import canonical_tables
from satchel.errors import TokenizerError
from satchel.reference.tokenizer_format import (
    BYTE_OF_CHARACTER,
    CHARACTER_OF_BYTE,
    NO_TOKEN,
    AddedFlag,
    DecoderOp,
    Model,
    ModelFlag,
    Op,
    Section,
    TokenFlag,
    pack_sections,
    word_hash,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFaceTokenizer

Json = Mapping[str, Any]

_BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f+][0-9A-Fa-f]>")


def compile_tokenizer(tokenizer_json: str) -> bytes:
    """The `tokenizer.bin` of a `tokenizer.json`. Raises TokenizerError naming the construct that can't be represented.

    `truncation` and `padding` are ignored, as transformers ignores the file's own for every call.
    """
    try:
        definition = json.loads(tokenizer_json)
    except ValueError as error:
        raise TokenizerError(f"tokenizer.json is no JSON: {error}; fetch the model again") from error
    if not isinstance(definition, dict) or not isinstance(definition.get("model"), dict):
        raise TokenizerError("tokenizer.json has no model; fetch the model again")
    model = definition["model"]
    _require_bpe(model)
    vocabulary: dict[str, int] = model["vocab"]
    added = _added_tokens(definition, vocabulary)
    unknown, flags = _unknown(model, vocabulary)
    loaded = _loaded(tokenizer_json, added)

    # The components as the library understood them: files of older releases leave things out.
    decoder = _component(loaded.decoder)
    steps = Steps()
    steps.add_normalizer(_component(loaded.normalizer))
    byte_level = steps.add_pre_tokenizer(_component(loaded.pre_tokenizer))
    steps.add_decoder(decoder)
    if byte_level != (steps.decoder == [(DecoderOp.BYTES, 0, 0)]):
        raise refuse(f"the decoder {kind(decoder or {})} with pieces of {'bytes' if byte_level else 'characters'}")
    steps.uses_words = any(token.get("single_word") for token in added)
    if not byte_level and not model.get("ignore_merges"):
        _add_safe_cuts(steps, model, vocabulary)

    # A normalized added token decodes to its normalized text, so the library is asked.
    shown = {int(token["id"]): str(loaded.id_to_token(token["id"])) for token in added}
    fallback = DecoderOp.BYTE_FALLBACK in {op for op, _, _ in steps.decoder}
    table = _TokenTable(vocabulary, added, shown, byte_level, fallback)
    merge_rows, merges = _merge_table(model, vocabulary, table)
    words, longest = _word_table(model, vocabulary, table, loaded)
    symbols = Model.BYTES if byte_level else Model.CHARACTERS
    added_records, added_points = _added_table(added, loaded)
    sections = [
        (Section.INFO, _info()),
        (Section.MODEL, struct.pack("<IIIII", symbols, len(table.flags), unknown, flags, longest)),
        *steps.sections(),
        (Section.TOKEN_FLAGS, bytes(table.flags)),
        (Section.TOKEN_OFFSETS, table.offsets()),
        (Section.TOKEN_BYTES, b"".join(table.texts)),
        (Section.BYTE_IDS, _byte_ids(vocabulary, byte_level, flags)),
        (Section.MERGE_ROWS, merge_rows),
        (Section.MERGES, merges),
        (Section.WORDS, words),
        (Section.ADDED_TOKENS, added_records),
        (Section.ADDED_POINTS, added_points),
        (Section.START_IDS, _start_ids(_component(loaded.post_processor))),
        (Section.GRAPHEMES, grapheme_section()),
    ]
    if any(op == Op.NFC for op, _, _ in steps.normalizer):
        sections.append((Section.CANONICAL, _canonical()))
    return pack_sections(sections)


def _info() -> bytes:
    """What the tables were made from, for people and bug reports; no reader acts on it."""
    import regex
    import tokenizers

    unicode = unicode_versions()
    lines = {
        "tokenizers": tokenizers.__version__,
        "unicode-regex": unicode["regex"],
        "unicode-digits": unicode["digits"],
        "regex": regex.__version__,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items()).encode()


def _component(loaded: Any) -> Json | None:
    """A normalizer, pre-tokenizer, post-processor or decoder as JSON."""
    if loaded is None:
        return None
    content: Json = json.loads(loaded.__getstate__())
    return content


# --- what is refused --------------------------------------------------------------------------------------------


def _require_bpe(model: Json) -> None:
    named = model.get("type", "BPE" if "merges" in model else None)
    if named != "BPE":
        raise refuse(f"the model {named}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise refuse(f"the BPE option {option} = {model[option]!r}")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise TokenizerError("tokenizer.json has an empty vocabulary; fetch the model again")
    ids = list(vocabulary.values())
    if len(set(ids)) != len(ids) or min(ids) < 0:
        raise TokenizerError("tokenizer.json gives one id to several tokens, or a negative id; fetch the model again")


def _loaded(tokenizer_json: str, added: Sequence[Json]) -> "HuggingFaceTokenizer":
    """Hugging Face's own tokenizer, which gives an added token an id of its own choice if the vocabulary has holes."""
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises plain Exception
        raise TokenizerError(
            f"Hugging Face's tokenizers refuse tokenizer.json: {error}; fetch the model again"
        ) from error
    for token in added:
        actual = loaded.token_to_id(token["content"])
        if actual != token["id"]:
            raise TokenizerError(
                f"the added token {token['content']!r} has id {token['id']} in tokenizer.json and {actual} in "
                "Hugging Face's tokenizers, which close the holes of a vocabulary; fix added_tokens in the model"
            )
    return loaded


def _start_ids(processor: Json | None) -> bytes:
    """The ids that the post-processor puts before a text, u32 each."""
    ids: list[int] = []
    processors = processor.get("processors", [processor]) if processor else []
    for part in processors:
        if part.get("type") == "ByteLevel":
            continue  # it only moves offsets
        if part.get("type") != "TemplateProcessing" or ids:
            raise refuse(f"the post-processor {kind(processor or part)}")
        pieces = part["single"]
        if "Sequence" not in pieces[-1] or any("Sequence" in piece for piece in pieces[:-1]):
            raise refuse("a post-processor that adds tokens behind a text")
        for piece in pieces[:-1]:
            ids += part["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    return struct.pack(f"<{len(ids)}I", *ids)


# --- vocabulary and merges --------------------------------------------------------------------------------------


class _TokenTable:
    """Text and flags of every id; an added token wins over the model's."""

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        added: Sequence[Json],
        shown: Mapping[int, str],
        byte_level: bool,
        fallback: bool,
    ) -> None:
        """shown: the text of every added token by id."""
        texts = {**{token_id: token for token, token_id in vocabulary.items()}, **shown}
        flags = dict.fromkeys(texts, TokenFlag.PRESENT)
        for token in added:
            special = TokenFlag.SPECIAL if token["special"] else TokenFlag(0)
            flags[token["id"]] = TokenFlag.PRESENT | TokenFlag.ADDED | special
        if fallback:
            for token_id, text in texts.items():
                if _BYTE_TOKEN.fullmatch(text):
                    if text[3] == "+":
                        raise refuse(f"the token {text!r} with the decoder ByteFallback")
                    flags[token_id] |= TokenFlag.BYTE
        count = max(texts) + 1
        encode = _bytes_of if byte_level else str.encode
        self.byte_level = byte_level
        self.texts = [encode(texts[token_id]) if token_id in texts else b"" for token_id in range(count)]
        self.flags = [flags.get(token_id, TokenFlag(0)) for token_id in range(count)]

    def offsets(self) -> bytes:
        """u32, one more than ids."""
        return np.concatenate([[0], np.cumsum([len(text) for text in self.texts])]).astype("<u4").tobytes()


def _bytes_of(token: str) -> bytes:
    """What a token decodes to: its characters through the byte alphabet, or itself if one is outside of it."""
    if all(character in BYTE_OF_CHARACTER for character in token):
        return bytes(BYTE_OF_CHARACTER[character] for character in token)
    return token.encode()


def _unknown(model: Json, vocabulary: Mapping[str, int]) -> tuple[int, ModelFlag]:
    """The id of what is not in the vocabulary (NO_TOKEN: it is dropped), and how it comes to that."""
    flags = ModelFlag(0)
    if model.get("byte_fallback"):
        present = [f"<0x{byte:02X}>" in vocabulary for byte in range(256)]
        if not all(present):
            raise refuse(f"byte_fallback with {sum(present)} of 256 byte tokens")
        flags |= ModelFlag.BYTE_FALLBACK
    if model.get("unk_token") is None:
        return NO_TOKEN, flags
    if model["unk_token"] not in vocabulary:
        raise TokenizerError(f"the unknown token {model['unk_token']!r} is not in the vocabulary")
    if model.get("fuse_unk"):
        flags |= ModelFlag.FUSE_UNKNOWN
    return vocabulary[model["unk_token"]], flags


def _byte_ids(vocabulary: Mapping[str, int], byte_level: bool, flags: ModelFlag) -> bytes:
    """The id of each byte: u32 [256]. NO_TOKEN for a byte without a token; empty where bytes never become ids."""
    if byte_level:
        if flags & ModelFlag.BYTE_FALLBACK:
            raise refuse("byte_fallback with ByteLevel")
        return struct.pack("<256I", *(vocabulary.get(CHARACTER_OF_BYTE[byte], NO_TOKEN) for byte in range(256)))
    if flags & ModelFlag.BYTE_FALLBACK:
        return struct.pack("<256I", *(vocabulary[f"<0x{byte:02X}>"] for byte in range(256)))
    return b""


def _merges_of(model: Json, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    merges = []
    for merge in model.get("merges") or []:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise TokenizerError(f"the merge {left!r} + {right!r} names {token!r}, which is not in the vocabulary")
        merges.append((left, right))
    return merges


def _merge_table(model: Json, vocabulary: Mapping[str, int], table: _TokenTable) -> tuple[bytes, bytes]:
    """Merges grouped by their left id: rows (u32, one more than ids) and then all right ids, ranks and results."""
    merges: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, (left, right) in enumerate(_merges_of(model, vocabulary)):
        result = vocabulary[left + right]
        if table.flags[result] & TokenFlag.SPECIAL:
            raise refuse(f"a merge that gives the special token {left + right!r}")  # a user could type it
        merges[vocabulary[left], vocabulary[right]] = (rank, result)
    ordered = sorted((left, right, rank, result) for (left, right), (rank, result) in merges.items())
    entries = np.array(ordered, dtype="<u4").reshape(-1, 4)
    rows = np.searchsorted(entries[:, 0], np.arange(len(table.flags) + 1))
    return rows.astype("<u4").tobytes(), np.ascontiguousarray(entries[:, 1:].T).tobytes()


def _word_table(
    model: Json, vocabulary: Mapping[str, int], table: _TokenTable, loaded: "HuggingFaceTokenizer"
) -> tuple[bytes, int]:
    """A hash table of the pieces that become one token, and the length in bytes of the longest.

    With ignore_merges every token is one; otherwise it only saves the merging that would give the token in the end.
    Special tokens are left out, so that no text of a user becomes one.
    """
    whole = bool(model.get("ignore_merges"))
    merge = loaded.model.tokenize
    words = []
    for token, token_id in vocabulary.items():
        if table.flags[token_id] & TokenFlag.SPECIAL:
            if len(token) == 1:
                raise refuse(f"the special token {token!r} of a single character")  # a user could type it
            continue
        if table.flags[token_id] & TokenFlag.BYTE and whole:
            raise refuse("ignore_merges with the decoder ByteFallback")  # "<0x41>" in a text would decode to "A"
        reachable = whole or [each.id for each in merge(token)] == [token_id]
        if reachable and not (table.byte_level and any(character not in BYTE_OF_CHARACTER for character in token)):
            words.append(token_id)
    size = 1
    while size < 2 * len(words):
        size *= 2
    slots = [NO_TOKEN] * size
    for token_id in words:
        place = word_hash(table.texts[token_id]) & (size - 1)
        while slots[place] != NO_TOKEN:
            place = (place + 1) & (size - 1)
        slots[place] = token_id
    longest = max((len(table.texts[token_id]) for token_id in words), default=0)
    return struct.pack(f"<{size}I", *slots), longest


def _add_safe_cuts(steps: Steps, model: Json, vocabulary: Mapping[str, int]) -> None:
    """Cuts before blanks that no merge reaches over, if the vocabulary has SentencePiece's blank."""
    blank = "\u2581"
    if blank not in vocabulary:
        return
    joined = (left + right for left, right in _merges_of(model, vocabulary))
    before = {text[i] for text in joined for i in range(len(text) - 1) if text[i + 1] == blank and text[i] != blank}
    if len(before) <= 16:
        steps.add_safe_cuts(blank, "".join(sorted(before)))


# --- added tokens -----------------------------------------------------------------------------------------------


def _added_tokens(definition: Json, vocabulary: Mapping[str, int]) -> list[Json]:
    """The added tokens by id, each checked against the vocabulary."""
    taken = {token_id: token for token, token_id in vocabulary.items()}
    contents: set[str] = set()
    added = [token for token in definition.get("added_tokens") or [] if token["content"]]
    for token in added:
        content, token_id = token["content"], token["id"]
        if content in contents or taken.setdefault(token_id, content) != content:
            raise TokenizerError(f"the added token {content!r} (id {token_id}) clashes with another token")
        if vocabulary.get(content, token_id) != token_id:
            raise TokenizerError(
                f"the added token {content!r} has id {token_id} and, in the model, {vocabulary[content]}"
            )
        contents.add(content)
    return sorted(added, key=lambda token: int(token["id"]))


def _added_table(added: Sequence[Json], loaded: "HuggingFaceTokenizer") -> tuple[bytes, bytes]:
    """Per added token id, flags, start and length of its text (u32 each), and the code points of all texts (u32).

    The text is what is matched: of a normalized token its normalized form. Sorted by text, those that are not
    normalized first.
    """
    rows: list[tuple[AddedFlag, str, int]] = []
    for token in added:
        flags = AddedFlag(0)
        for flag, key in (
            (AddedFlag.SPECIAL, "special"),
            (AddedFlag.NORMALIZED, "normalized"),
            (AddedFlag.LSTRIP, "lstrip"),
            (AddedFlag.RSTRIP, "rstrip"),
            (AddedFlag.SINGLE_WORD, "single_word"),
        ):
            if token.get(key):
                flags |= flag
        text = token["content"]
        if flags & AddedFlag.NORMALIZED and loaded.normalizer is not None:
            text = loaded.normalizer.normalize_str(text)
            if not text:
                raise refuse(f"the added token {token['content']!r}, of which the normalizer leaves nothing")
        rows.append((flags, text, token["id"]))
    rows.sort(key=lambda row: (row[0] & AddedFlag.NORMALIZED, row[1]))
    records, points = bytearray(), ""
    matched: set[tuple[AddedFlag, str]] = set()
    for flags, text, token_id in rows:
        entry = (flags & AddedFlag.NORMALIZED, text)
        if entry in matched:
            raise refuse(f"two added tokens that the normalizer turns into {text!r}")
        matched.add(entry)
        records += struct.pack("<IIII", token_id, flags, len(points), len(text))
        points += text
    return bytes(records), points.encode("utf-32-le")


# --- normalization ----------------------------------------------------------------------------------------------


def _canonical() -> bytes:
    """u32 D, K, C; decompositions: D points, D + 1 offsets, their points; K marks and classes; C firsts, seconds and
    results. u32 each; points, marks and (first, second) ascend.
    """
    tables = canonical_tables()
    points = sorted(tables.decompositions)
    parts = [tables.decompositions[point] for point in points]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    marks = sorted(tables.combining)
    pairs = sorted(tables.compositions)
    numbers = [
        *(len(points), len(marks), len(pairs), *points, *offsets.tolist(), *(each for part in parts for each in part)),
        *marks,
        *(tables.combining[mark] for mark in marks),
        *(first for first, _ in pairs),
        *(second for _, second in pairs),
        *(tables.compositions[pair] for pair in pairs),
    ]
    return np.array(numbers, dtype="<u4").tobytes()
