"""Compiles a Hugging Face `tokenizer.json` into the compact `tokenizer.bin` that devices read.

Whatever the format can't represent exactly is refused by name; nothing is approximated. What is represented: byte-level
BPE, the pre-tokenizers ByteLevel and Digits and sequences of them, added tokens, no normalizer.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from satchel.errors import TokenizerError
from satchel.reference.tokenizer_format import (
    BYTE_OF_CHARACTER,
    CHARACTER_OF_BYTE,
    NO_TOKEN,
    AddedFlag,
    Decoder,
    Model,
    Op,
    Section,
    TokenFlag,
    pack_sections,
)
from satchel.reference.unicode_classes import character_classes, class_ranges, unicode_versions

Json = Mapping[str, Any]


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

    _require_no_normalizer(definition)
    _require_no_added_ids(definition)
    _require_byte_decoder(definition)
    model = definition["model"]
    _require_byte_bpe(model)
    vocabulary: dict[str, int] = model["vocab"]
    added = _added_tokens(definition, vocabulary)
    ops = _operations(definition.get("pre_tokenizer"))

    token_flags, token_offsets, token_bytes = _token_table(vocabulary, added)
    merge_rows, merges = _merge_table(model, vocabulary, len(token_flags))
    _require_ids_as_loaded(tokenizer_json, added)
    classes = character_classes()
    starts, bits = class_ranges(classes)
    added_records, added_bytes = _added_table(added)
    return pack_sections(
        [
            (Section.INFO, _info(unicode_versions(classes))),
            (Section.MODEL, struct.pack("<III", Model.BYTE_BPE, Decoder.BYTES, len(token_flags))),
            (Section.OPS, b"".join(struct.pack("<II", op, argument) for op, argument in ops)),
            (Section.CLASSES, struct.pack("<I", len(starts)) + starts.astype("<u4").tobytes() + bits.tobytes()),
            (Section.TOKEN_FLAGS, token_flags),
            (Section.TOKEN_OFFSETS, token_offsets),
            (Section.TOKEN_BYTES, token_bytes),
            (Section.BYTE_IDS, _byte_ids(model, vocabulary)),
            (Section.MERGE_ROWS, merge_rows),
            (Section.MERGES, merges),
            (Section.ADDED_TOKENS, added_records),
            (Section.ADDED_BYTES, added_bytes),
        ]
    )


def _refuse(construct: str) -> TokenizerError:
    return TokenizerError(f"the tokenizer uses {construct}, which tokenizer.bin can't represent exactly")


def _info(unicode: Mapping[str, str]) -> bytes:
    """What the tables were made from, for people and bug reports; no reader acts on it."""
    import tokenizers

    lines = {
        "tokenizers": tokenizers.__version__,
        "unicode-regex": unicode["regex"],
        "unicode-digits": unicode["digits"],
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items()).encode()


# --- what is refused --------------------------------------------------------------------------------------------


def _require_no_normalizer(definition: Json) -> None:
    if definition.get("normalizer") is not None:
        raise _refuse(f"the normalizer {_kind(definition['normalizer'])}")


def _require_no_added_ids(definition: Json) -> None:
    """Post-processors that add ids would make a raw prompt differ; ByteLevel's only moves offsets."""
    processor = definition.get("post_processor")
    if processor is not None and processor.get("type") != "ByteLevel":
        raise _refuse(f"the post-processor {_kind(processor)}")


def _require_byte_decoder(definition: Json) -> None:
    decoder = definition.get("decoder")
    if decoder is None or decoder.get("type") != "ByteLevel":
        raise _refuse("no decoder" if decoder is None else f"the decoder {_kind(decoder)}")


def _require_byte_bpe(model: Json) -> None:
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE":
        raise _refuse(f"the model {kind}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(option):
            raise _refuse(f"the BPE option {option} = {model[option]!r}")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise TokenizerError("tokenizer.json has an empty vocabulary; fetch the model again")
    ids = list(vocabulary.values())
    if len(set(ids)) != len(ids) or min(ids) < 0:
        raise TokenizerError("tokenizer.json gives one id to several tokens, or a negative id; fetch the model again")


def _require_ids_as_loaded(tokenizer_json: str, added: Sequence[Json]) -> None:
    """Hugging Face's loader gives an added token an id of its own choice if the vocabulary before it has holes."""
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


def _kind(component: Json) -> str:
    """A component's name for an error message; a sequence names its parts."""
    parts = component.get("normalizers") or component.get("pretokenizers") or component.get("processors")
    parts = parts or component.get("decoders")
    name = str(component.get("type"))
    return f"{name}({', '.join(_kind(part) for part in parts)})" if parts else name


# --- pre-tokenizer ----------------------------------------------------------------------------------------------


def _operations(pre_tokenizer: Json | None) -> list[tuple[Op, int]]:
    """The pre-tokenizer as a list of operations. The turn into bytes comes last and is implied."""
    if pre_tokenizer is None:
        raise _refuse("no pre-tokenizer")
    steps: Sequence[Json] = [pre_tokenizer]
    if pre_tokenizer.get("type") == "Sequence":
        steps = pre_tokenizer["pretokenizers"]
    ops: list[tuple[Op, int]] = []
    for step in steps[:-1]:
        if step.get("type") != "Digits":
            raise _refuse(f"the pre-tokenizer {_kind(step)} before others")
        ops.append((Op.DIGITS, int(bool(step.get("individual_digits")))))
    last = steps[-1] if steps else {}
    if last.get("type") != "ByteLevel":
        raise _refuse(f"the pre-tokenizer {_kind(pre_tokenizer)}, which does not end with ByteLevel")
    if last.get("add_prefix_space", True):
        ops.append((Op.PREFIX_SPACE, 0))
    if last.get("use_regex", True):
        ops.append((Op.SPLIT_GPT2, 0))
    return ops


# --- vocabulary and merges --------------------------------------------------------------------------------------


def _bytes_of(token: str) -> bytes:
    """What a token decodes to: its characters through the byte alphabet, or itself if one is outside of it."""
    if all(character in BYTE_OF_CHARACTER for character in token):
        return bytes(BYTE_OF_CHARACTER[character] for character in token)
    return token.encode()


def _token_table(vocabulary: Mapping[str, int], added: Sequence[Json]) -> tuple[bytes, bytes, bytes]:
    """Flags (u8 each), offsets (u32, one more than ids) and bytes of every id; an added token wins over the model's."""
    texts = {token_id: token for token, token_id in vocabulary.items()}
    flags = dict.fromkeys(texts, TokenFlag.PRESENT)
    for token in added:
        texts[token["id"]] = token["content"]
        special = TokenFlag.SPECIAL if token["special"] else TokenFlag(0)
        flags[token["id"]] = TokenFlag.PRESENT | TokenFlag.ADDED | special
    count = max(texts) + 1
    pieces = [_bytes_of(texts[token_id]) if token_id in texts else b"" for token_id in range(count)]
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    return bytes(flags.get(i, 0) for i in range(count)), offsets.astype("<u4").tobytes(), b"".join(pieces)


def _byte_ids(model: Json, vocabulary: Mapping[str, int]) -> bytes:
    """The id each byte starts as: u32 [256]. A byte without a token is dropped, or becomes the unknown token."""
    missing = [byte for byte, character in CHARACTER_OF_BYTE.items() if character not in vocabulary]
    unknown = NO_TOKEN
    if missing and model.get("unk_token") is not None:
        if model.get("fuse_unk"):
            raise _refuse("the BPE option fuse_unk with bytes that have no token")
        if model["unk_token"] not in vocabulary:
            raise TokenizerError(f"the unknown token {model['unk_token']!r} is not in the vocabulary")
        unknown = vocabulary[model["unk_token"]]
    return struct.pack("<256I", *(vocabulary.get(CHARACTER_OF_BYTE[byte], unknown) for byte in range(256)))


def _merge_table(model: Json, vocabulary: Mapping[str, int], token_count: int) -> tuple[bytes, bytes]:
    """Merges grouped by their left id: rows (u32, one more than ids) and then all right ids, ranks and results."""
    merges: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, merge in enumerate(model.get("merges") or []):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise TokenizerError(f"the merge {left!r} + {right!r} names {token!r}, which is not in the vocabulary")
        merges[vocabulary[left], vocabulary[right]] = (rank, vocabulary[left + right])
    ordered = sorted((left, right, rank, result) for (left, right), (rank, result) in merges.items())
    table = np.array(ordered, dtype="<u4").reshape(-1, 4)
    rows = np.searchsorted(table[:, 0], np.arange(token_count + 1))
    return rows.astype("<u4").tobytes(), np.ascontiguousarray(table[:, 1:].T).tobytes()


# --- added tokens -----------------------------------------------------------------------------------------------


def _added_tokens(definition: Json, vocabulary: Mapping[str, int]) -> list[Json]:
    """The added tokens by id, each checked against the vocabulary and against what is represented."""
    taken = {token_id: token for token, token_id in vocabulary.items()}
    contents: set[str] = set()
    added = [token for token in definition.get("added_tokens") or [] if token["content"]]
    for token in added:
        content, token_id = token["content"], token["id"]
        if token.get("single_word"):
            raise _refuse(f"single_word on the added token {content!r}")
        if content in contents or taken.setdefault(token_id, content) != content:
            raise TokenizerError(f"the added token {content!r} (id {token_id}) clashes with another token")
        if vocabulary.get(content, token_id) != token_id:
            raise TokenizerError(
                f"the added token {content!r} has id {token_id} and, in the model, {vocabulary[content]}"
            )
        contents.add(content)
    return sorted(added, key=lambda token: int(token["id"]))


def _added_table(added: Sequence[Json]) -> tuple[bytes, bytes]:
    """Per added token id, flags, start and length of its text in the blob (u32 each), and the blob (UTF-8)."""
    records, blob = bytearray(), bytearray()
    for token in added:
        flags = AddedFlag(0)
        for flag, key in (
            (AddedFlag.SPECIAL, "special"),
            (AddedFlag.NORMALIZED, "normalized"),
            (AddedFlag.LSTRIP, "lstrip"),
            (AddedFlag.RSTRIP, "rstrip"),
        ):
            if token.get(key):
                flags |= flag
        text = token["content"].encode()
        records += struct.pack("<IIII", token["id"], flags, len(blob), len(text))
        blob += text
    return bytes(records), bytes(blob)
