"""Tokenizers that went through a GGUF file's metadata, against those that they were made from."""

import io
import json
import re
from random import Random
from typing import Any

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from random_text import random_texts
from real_tokenizers import fetch_tokenizer
from satchel.compile.tokenizer import compile_tokenizer
from satchel.reference.tokenizer import Tokenizer
from satchel.source.gguf.tokenizer import tokenizer_assets
from trained_tokenizers import trained_on_bytes

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
TEXTS = 20_000


def metadata(definition: dict[str, Any], pre: str, padding: int) -> dict[str, Any]:
    """What a converter writes of a tokenizer.json; `padding` ids behind it belong to the model's table only."""
    added = {token["id"]: token for token in definition["added_tokens"]}
    texts = {index: text for text, index in definition["model"]["vocab"].items()}
    texts |= {index: token["content"] for index, token in added.items()}
    count = max(texts) + 1
    tokens = [texts.get(index, f"[PAD{index}]") for index in range(count + padding)]
    types = [NORMAL if index in texts else UNUSED for index in range(count + padding)]
    for index, token in added.items():
        types[index] = CONTROL if token["special"] else USER_DEFINED
    merges = definition["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        "tokenizer.ggml.bos_token_id": min(added),
        "tokenizer.ggml.eos_token_id": min(added),
    }


@pytest.mark.parametrize(("name", "pre"), [("llama3_1", "llama-bpe"), ("qwen3", "qwen2")])
def test_ids_equal_those_of_the_tokenizer_json(name: str, pre: str) -> None:
    text = (fetch_tokenizer(name) / "tokenizer.json").read_text(encoding="utf-8")
    definition = json.loads(text)
    rebuilt = tokenizer_assets(metadata(definition, pre, padding=7)).tokenizer_json
    theirs, ours = HuggingFaceTokenizer.from_str(text), HuggingFaceTokenizer.from_str(rebuilt)
    assert json.loads(rebuilt)["normalizer"] == definition["normalizer"]
    specials = [token["content"] for token in definition["added_tokens"]]
    for special in (True, False):
        theirs.encode_special_tokens = ours.encode_special_tokens = not special
        for piece in random_texts(TEXTS // 2, 11, specials):
            ids = ours.encode(piece).ids  # with what opens every text
            assert ids == theirs.encode(piece).ids
            assert ours.decode(ids) == theirs.decode(ids)


def pieces(definition: dict[str, Any], first: int) -> dict[str, Any]:
    """What a converter writes of a SentencePiece model; first: the id of the first token that is merged from others."""
    texts = {index: text for text, index in definition["model"]["vocab"].items()}
    added = {token["id"]: token for token in definition["added_tokens"] if token["id"] in texts}
    types = [NORMAL] * len(texts)
    for index, text in texts.items():
        if re.fullmatch("<0x[0-9A-F]{2}>", text):
            types[index] = BYTE
    for index, token in added.items():
        types[index] = CONTROL if token["special"] else USER_DEFINED
    unknown = definition["model"]["vocab"]["<unk>"]
    types[unknown] = UNKNOWN
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        # The conversion writes a user's token of blanks as blanks.
        "tokenizer.ggml.tokens": [
            texts[index].replace("\u2581", " ") if types[index] == USER_DEFINED else texts[index]
            for index in range(len(texts))
        ],
        # Llama's runs of blanks all have the same score, the last of all.
        "tokenizer.ggml.scores": [
            -1e9 if set(texts[index]) == {"\u2581"} else float(first - index) if kind == NORMAL else 0.0
            for index, kind in enumerate(types)
        ],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": next(
            index for index, one in added.items() if one["content"] in ("<s>", "<bos>")
        ),
        "tokenizer.ggml.eos_token_id": next(
            index for index, one in added.items() if one["content"] in ("</s>", "<eos>")
        ),
        "tokenizer.ggml.unknown_token_id": unknown,
    }


@pytest.mark.parametrize(("name", "first", "prefix"), [("llama2", 259, True), ("gemma3", 494, False)])
def test_sentencepiece_ids_equal_those_of_the_tokenizer_json(name: str, first: int, prefix: bool) -> None:
    text = (fetch_tokenizer(name) / "tokenizer.json").read_text(encoding="utf-8")
    definition = json.loads(text)
    fields = {**pieces(definition, first), "tokenizer.ggml.add_space_prefix": prefix}
    theirs = HuggingFaceTokenizer.from_str(text)
    ours = HuggingFaceTokenizer.from_str(tokenizer_assets(fields).tokenizer_json)
    specials = [token["content"] for token in definition["added_tokens"][:300] if token["id"] < 262144]
    for piece in random_texts(TEXTS // 8, 11, specials):
        if "\u2581" in piece or " " * 32 in piece:
            continue  # SentencePiece takes its own sign for a blank, and 31 blanks at a time
        ids = ours.encode(piece).ids
        assert ids == theirs.encode(piece).ids, piece
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("prefix", [True, False])
def test_ids_equal_those_of_sentencepiece_itself(prefix: bool) -> None:
    import sentencepiece

    own = ["<tool>", *([] if prefix else ["\u2581\u2581", "\u2581\u2581\u2581", "\n"])]
    texts = [*random_texts(3000, 5, []), *repetitions(200, 1)]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["".join(x for x in text if x < "\u0180") for text in texts]),
        model_writer=written,
        vocab_size=1200,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        user_defined_symbols=own,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    count = theirs.get_piece_size()
    tokens = [theirs.id_to_piece(index) for index in range(count)]
    kinds = [(theirs.is_unknown, UNKNOWN), (theirs.is_control, CONTROL), (theirs.is_byte, BYTE)]
    types = [next((kind for test, kind in kinds if test(index)), NORMAL) for index in range(count)]
    types = [USER_DEFINED if tokens[index] in own else kind for index, kind in enumerate(types)]
    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [float(theirs.get_score(index)) for index in range(count)],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": prefix,
    }
    ours = HuggingFaceTokenizer.from_str(tokenizer_assets(fields).tokenizer_json)
    for text in [*random_texts(3000, 6, []), *repetitions(2000, 2)]:
        if text and not any(token in text for token in ("<s>", "</s>", "<unk>", "<tool>")):
            assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text), text


def repetitions(count: int, seed: int) -> list[str]:
    """Texts of few letters, where many pairs of neighbours give one token."""
    random = Random(seed)
    return ["".join(random.choices(random.choice(["ab", "a", "-=", " a", "aab"]), k=40)) for _ in range(count)]


@pytest.mark.parametrize("pre", ["tekken", "gpt-4o"])
def test_every_name_reaches_the_device(pre: str) -> None:
    definition = json.loads(trained_on_bytes())
    assets = tokenizer_assets(metadata(definition, pre, padding=3))
    theirs = HuggingFaceTokenizer.from_str(assets.tokenizer_json)
    ours = Tokenizer.from_bytes(compile_tokenizer(assets.tokenizer_json))
    for text in random_texts(300, 3, []):
        assert ours.encode_raw(text) == theirs.encode(text).ids, text


def test_what_opens_every_text_reaches_the_device() -> None:
    text = (fetch_tokenizer("llama3_1") / "tokenizer.json").read_text(encoding="utf-8")
    assets = tokenizer_assets(metadata(json.loads(text), "llama-bpe", padding=0))
    tokenizer = Tokenizer.from_bytes(compile_tokenizer(assets.tokenizer_json))
    assert tokenizer.start_ids == (assets.bos_id,) == (128000,)
