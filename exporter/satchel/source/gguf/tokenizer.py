"""The tokenizer inside a GGUF file, rebuilt as the `tokenizer.json` it was converted from.

GGUF stores tokens, merges and a short name for the pre-tokenizer (`tokenizer.ggml.pre`, llama.cpp's table of names).
Only names whose exact meaning is known here are taken; guessing one would give a model that runs and is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from satchel.errors import TokenizerError
from satchel.source.checkpoint import TokenizerAssets

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`, numbered as in the GGUF specification."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class BytePairs:
    """What a name in llama.cpp's table stands for: a byte-level tokenizer.

    split: how a text is cut into pieces. nfc: it is normalized before. whole_words_first: a piece that is a token is
    not merged. adds_bos: where the file doesn't say so, the beginning-of-text token opens every text.
    """

    split: Callable[[], "PreTokenizer"]
    nfc: bool = False
    whole_words_first: bool = False
    adds_bos: bool = False


def _digits() -> "PreTokenizer":
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])


def _gpt2() -> "PreTokenizer":
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel(add_prefix_space=False, use_regex=True)


def _pattern(digits: str) -> "PreTokenizer":
    """Words with one mark before them, numbers of so many digits, marks and blanks."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    endings = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    marks = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
    blanks = r"\s*[\r\n]+|\s+(?!\S)|\s+"
    pattern = rf"{endings}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|{marks}|{blanks}"
    return Sequence([Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


PRE_TOKENIZERS: Mapping[str, BytePairs] = {
    "smollm": BytePairs(_digits),
    "gpt-2": BytePairs(_gpt2),
    "llama-bpe": BytePairs(lambda: _pattern(r"\p{N}{1,3}"), whole_words_first=True, adds_bos=True),
    "qwen2": BytePairs(lambda: _pattern(r"\p{N}"), nfc=True),
}


def tokenizer_assets(metadata: Mapping[str, Any]) -> TokenizerAssets:
    """The tokenizer of a GGUF file's metadata (name -> plain Python value).

    Raises TokenizerError if there is none, if a part is damaged, or naming the model or pre-tokenizer not known.
    """
    model = metadata.get("tokenizer.ggml.model")
    if model is None:
        raise TokenizerError("the GGUF file holds no tokenizer; use the file as its author published it")
    if model != "gpt2":
        raise TokenizerError(f"the GGUF tokenizer model {model!r} is not supported; supported: 'gpt2' (byte-level BPE)")
    name = metadata.get("tokenizer.ggml.pre")
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        known = ", ".join(map(repr, PRE_TOKENIZERS))
        raise TokenizerError(f"the GGUF pre-tokenizer {name!r} is not supported; supported: {known}")
    for option in ("add_eos_token", "add_space_prefix"):
        if metadata.get(f"tokenizer.ggml.{option}"):
            raise TokenizerError(f"the GGUF tokenizer sets {option}, which is not supported")

    tokens = _strings(metadata, "tokens")
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, list) or len(types) != len(tokens) or not all(type(kind) is int for kind in types):
        raise TokenizerError(f"tokenizer.ggml.token_type does not have one entry for each of the {len(tokens)} tokens")
    bos_id, eos_id, pad_id = (_token_id(metadata, key, len(tokens)) for key in ("bos", "eos", "padding"))
    turn_ends = [eos_id, *(_token_id(metadata, key, len(tokens)) for key in ("eot", "eom"))]
    adds_bos = metadata.get("tokenizer.ggml.add_bos_token", PRE_TOKENIZERS[name].adds_bos)
    if adds_bos and bos_id is None:
        raise TokenizerError("the GGUF tokenizer sets add_bos_token, but tokenizer.ggml.bos_token_id is missing")
    template = metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise TokenizerError("tokenizer.chat_template in the GGUF file is no text; get the file again")
    return TokenizerAssets(
        tokenizer_json=_tokenizer_json(
            tokens, types, _strings(metadata, "merges"), PRE_TOKENIZERS[name], bos_id if adds_bos else None
        ),
        chat_template=template,
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        stop_ids=tuple(dict.fromkeys(token for token in turn_ends if token is not None)),
        bos_token="" if bos_id is None else tokens[bos_id],
        eos_token="" if eos_id is None else tokens[eos_id],
    )


def _strings(metadata: Mapping[str, Any], key: str) -> Sequence[str]:
    values = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise TokenizerError(f"the GGUF file holds no tokenizer.ggml.{key}; use the file as its author published it")
    return values


def _token_id(metadata: Mapping[str, Any], key: str, count: int) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{key}_token_id")
    if value is not None and (type(value) is not int or not 0 <= value < count):
        raise TokenizerError(f"tokenizer.ggml.{key}_token_id is {value!r:.40}, the vocabulary has {count} tokens")
    return value


def _tokenizer_json(
    tokens: Sequence[str], types: Sequence[int], merges: Sequence[str], kind_of: BytePairs, start_id: int | None
) -> str:
    """Unused ids are holes in the vocabulary. Bytes without a token are dropped, so no unknown token is named.

    start_id: what opens every text, if anything does.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
    from tokenizers.models import BPE

    vocabulary: dict[str, int] = {}
    added: list[AddedToken] = []
    for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind == TokenType.UNUSED:
            continue
        if kind not in (TokenType.NORMAL, TokenType.CONTROL, TokenType.USER_DEFINED):
            raise TokenizerError(f"token {token_id} ({token!r}) has the GGUF token type {kind}, which is not supported")
        if vocabulary.setdefault(token, token_id) != token_id:
            raise TokenizerError(
                f"token {token!r} stands in the GGUF file twice, as {vocabulary[token]} and {token_id}"
            )
        if kind != TokenType.NORMAL:
            added.append(AddedToken(token, special=kind == TokenType.CONTROL, normalized=False))
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        left, separator, right = merge.partition(" ")
        if not separator or any(token not in vocabulary for token in (left, right, left + right)):
            raise TokenizerError(f"the merge {merge!r} in the GGUF file does not join two tokens into a third")
        pairs.append((left, right))

    model = BPE(vocabulary, pairs, fuse_unk=False, byte_fallback=False, ignore_merges=kind_of.whole_words_first)
    tokenizer = Tokenizer(model)
    if kind_of.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = kind_of.split()
    tokenizer.decoder = decoders.ByteLevel()
    if start_id is not None:
        start = (tokens[start_id], start_id)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[start[0], "$A"], pair=[start[0], "$A", "$B"], special_tokens=[start]
        )
    tokenizer.add_tokens(added)
    return tokenizer.to_str()
