"""Tokenizers that went through a GGUF file's metadata, against those that they were made from."""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from random_text import random_texts
from real_tokenizers import fetch_tokenizer
from satchel.compile.tokenizer import compile_tokenizer
from satchel.reference.tokenizer import Tokenizer
from satchel.source.gguf.tokenizer import tokenizer_assets

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
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


def test_what_opens_every_text_reaches_the_device() -> None:
    text = (fetch_tokenizer("llama3_1") / "tokenizer.json").read_text(encoding="utf-8")
    assets = tokenizer_assets(metadata(json.loads(text), "llama-bpe", padding=0))
    tokenizer = Tokenizer.from_bytes(compile_tokenizer(assets.tokenizer_json))
    assert tokenizer.start_ids == (assets.bos_id,) == (128000,)
