"""Small tokenizers trained here with Hugging Face's library, as tokenizer.json's content, and changes to them."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from random_text import random_texts

Definition = dict[str, Any]
Change = Callable[[Definition], object]


def changed(definition: Definition, change: Change) -> str:
    copy: Definition = json.loads(json.dumps(definition))
    change(copy)
    return json.dumps(copy)


def without_bytes(definition: Definition, unknown: str | None) -> None:
    """Takes the single bytes of two letters and of a continuation byte out of the vocabulary."""
    model = definition["model"]
    gone = {"e", "T", "\u0122"}
    model["merges"] = [pair for pair in model["merges"] if not gone & set("".join(pair))]
    # Other names keep their ids: without them the added tokens would get ids of their own choice.
    model["vocab"] = {
        f"\u4e00{token_id}" if gone & set(token) else token: token_id for token, token_id in model["vocab"].items()
    }
    model["unk_token"] = unknown


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> Definition:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def pre_tokenized(*steps: Definition, use_regex: bool = False) -> Change:
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
    return lambda d: d.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [*steps, last]})


def normalized(*steps: Definition) -> Change:
    return lambda d: d.update(normalizer={"type": "Sequence", "normalizers": list(steps)})


def replaced(pattern: str, content: str) -> Definition:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


ADDED = (
    AddedToken("<|start|>", special=True),
    AddedToken("<|end|>", special=True),
    AddedToken("<|end|><|end|>", special=True),  # the longest match wins
    AddedToken("<<in <|start|> side>>", special=True),
    AddedToken("start", special=False, normalized=False),  # also inside of a special one
    AddedToken("  ", special=False, normalized=True),
    AddedToken("<fill>", special=False, normalized=True),
    AddedToken("<mask>", special=True, lstrip=True),
    AddedToken("<sep>", special=True, rstrip=True),
    AddedToken("\u00e9 ", special=False, normalized=False),  # decodes to other bytes than it matches
    AddedToken("\u00e9\u00e9", special=False, normalized=False),
    AddedToken("word", special=False, normalized=False, single_word=True),
    AddedToken("e\u0301 x", special=False, normalized=True),
)
SPECIALS = [token.content for token in ADDED]


@cache
def trained_on_bytes() -> str:
    """A trained byte-level BPE with digits apart and added tokens of every kind, as tokenizer.json's content."""
    tokenizer = HuggingFaceTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(random_texts(3000, seed=5, specials=[]), trainer)
    tokenizer.add_tokens(list(ADDED))
    return str(tokenizer.to_str())


BLANK = "\u2581"
LLAMA_2 = {
    "type": "Sequence",
    "decoders": [
        replaced(BLANK, " "),
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


@cache
def trained_on_characters() -> str:
    """A trained BPE over characters with SentencePiece's blank and byte fallback, as tokenizer.json's content."""
    tokenizer = HuggingFaceTokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", BLANK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(BLANK, "merged_with_next")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, limit_alphabet=200, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], show_progress=False
    )
    tokenizer.train_from_iterator(random_texts(3000, seed=6, specials=[]), trainer)
    content: Definition = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    content["normalizer"]["pattern"] = {"String": " "}
    content["pre_tokenizer"] = None
    content["decoder"] = LLAMA_2
    return json.dumps(content)
