"""The tokenizer inside a GGUF file, rebuilt as the `tokenizer.json` it was converted from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from satchel.errors import TokenizerError
from satchel.source.checkpoint import TokenizerAssets
from satchel.source.gguf.byte_pairs import byte_level_tokenizer, byte_pairs
from satchel.source.gguf.sentencepiece import adds_blank, respelled, sentencepiece_tokenizer
from satchel.source.gguf.vocabulary import TokenType, Vocabulary, strings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# llama.cpp's ids where a SentencePiece file names none.
_SENTENCEPIECE_IDS = {"bos": 1, "eos": 2}


def tokenizer_assets(metadata: Mapping[str, Any]) -> TokenizerAssets:
    """The tokenizer of a GGUF file's metadata (name -> plain Python value).

    Raises TokenizerError if there is none, if a part is damaged, or naming the model or pre-tokenizer not known.
    """
    model = metadata.get("tokenizer.ggml.model")
    if model is None:
        raise TokenizerError("the GGUF file holds no tokenizer; use the file as its author published it")
    if model not in ("gpt2", "llama"):
        raise TokenizerError(
            f"the GGUF tokenizer model {model!r} is not supported; supported: 'gpt2' (byte-level BPE) and 'llama' "
            "(SentencePiece)"
        )
    template = metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise TokenizerError("tokenizer.chat_template in the GGUF file is no text; get the file again")
    tokenizer, vocabulary, adds_bos = _of_bytes(metadata) if model == "gpt2" else _of_characters(metadata)
    tokens = vocabulary.tokens
    defaults = _SENTENCEPIECE_IDS if model == "llama" else {}
    bos_id, eos_id, pad_id = (
        _token_id(metadata, key, len(tokens), defaults.get(key)) for key in ("bos", "eos", "padding")
    )
    turn_ends = [eos_id, *(_token_id(metadata, key, len(tokens)) for key in ("eot", "eom"))]
    if metadata.get("tokenizer.ggml.add_bos_token", adds_bos):
        if bos_id is None:
            raise TokenizerError("the GGUF tokenizer sets add_bos_token, but tokenizer.ggml.bos_token_id is missing")
        _open_texts_with(tokenizer, tokens[bos_id], bos_id)
    # A user's token is found in the normalized text by SentencePiece, where blanks are spelled like in the tokens.
    _add_tokens(tokenizer, vocabulary, in_normalized=model == "llama" and not adds_blank(metadata))
    return TokenizerAssets(
        tokenizer_json=tokenizer.to_str(),
        chat_template=template,
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        stop_ids=tuple(dict.fromkeys(token for token in turn_ends if token is not None)),
        bos_token="" if bos_id is None else tokens[bos_id],
        eos_token="" if eos_id is None else tokens[eos_id],
    )


def _of_bytes(metadata: Mapping[str, Any]) -> tuple["Tokenizer", Vocabulary, bool]:
    """Tokenizer, vocabulary, and whether texts are opened where the file does not say so."""
    kind_of = byte_pairs(metadata.get("tokenizer.ggml.pre"))
    for option in ("add_eos_token", "add_space_prefix"):
        if metadata.get(f"tokenizer.ggml.{option}"):
            raise TokenizerError(f"the GGUF tokenizer sets {option}, which is not supported")
    vocabulary = Vocabulary.of(metadata)
    return byte_level_tokenizer(vocabulary, strings(metadata, "merges"), kind_of), vocabulary, kind_of.adds_bos


def _of_characters(metadata: Mapping[str, Any]) -> tuple["Tokenizer", Vocabulary, bool]:
    """The same of SentencePiece's BPE."""
    if metadata.get("tokenizer.ggml.add_eos_token"):
        raise TokenizerError("the GGUF tokenizer sets add_eos_token, which is not supported")
    vocabulary = respelled(Vocabulary.of(metadata))
    vocabulary.refuse_other_kinds(tuple(TokenType))
    spelled = [token for _, token in vocabulary.of_type(TokenType.USER_DEFINED) if "\u2581" in token]
    if spelled and adds_blank(metadata):
        raise TokenizerError(
            f"the GGUF tokenizer has the user's token {spelled[0]!r} and puts a blank before texts, which is not "
            "supported"
        )
    return sentencepiece_tokenizer(vocabulary, metadata), vocabulary, True


def _token_id(metadata: Mapping[str, Any], key: str, count: int, default: int | None = None) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{key}_token_id", default)
    if value is not None and (type(value) is not int or not 0 <= value < count):
        raise TokenizerError(f"tokenizer.ggml.{key}_token_id is {value!r:.40}, the vocabulary has {count} tokens")
    return value


def _open_texts_with(tokenizer: "Tokenizer", token: str, token_id: int) -> None:
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single=[token, "$A"], pair=[token, "$A", "$B"], special_tokens=[(token, token_id)]
    )


def _add_tokens(tokenizer: "Tokenizer", vocabulary: Vocabulary, in_normalized: bool) -> None:
    """What is found as a whole: special tokens, and those that whoever made the vocabulary put there by hand."""
    from tokenizers import AddedToken

    tokenizer.add_tokens(
        [
            AddedToken(
                vocabulary.tokens[token_id],
                special=kind != TokenType.USER_DEFINED,
                normalized=in_normalized and kind == TokenType.USER_DEFINED,
            )
            for token_id, kind in enumerate(vocabulary.types)
            if kind in (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
        ]
    )
