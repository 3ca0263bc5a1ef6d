"""The tokenizer of a GGUF file's metadata, and what is refused."""

from typing import Any

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import pre_tokenizers

from satchel.errors import TokenizerError
from satchel.source.gguf.tokenizer import tokenizer_assets

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5


def metadata(**changes: Any) -> dict[str, Any]:
    """A byte-level vocabulary behind a special token, a user's token and a hole; None removes a key."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fields = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": ["<|end|>", "<tool>", "[unused]", *alphabet, "th", "the"],
        "token_type": [CONTROL, USER_DEFINED, UNUSED, *([NORMAL] * (len(alphabet) + 2))],
        "merges": ["t h", "th e"],
        "eos_token_id": 0,
        "padding_token_id": 0,
        "add_bos_token": False,
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items() if value is not None}


def test_rebuilds_the_tokenizer() -> None:
    assets = tokenizer_assets({**metadata(eot_token_id=1), "tokenizer.chat_template": "{{ messages }}"})
    assert (assets.bos_id, assets.eos_id, assets.pad_id, assets.stop_ids) == (None, 0, 0, (0, 1))
    assert (assets.bos_token, assets.eos_token, assets.chat_template) == ("", "<|end|>", "{{ messages }}")
    tokenizer = HuggingFaceTokenizer.from_str(assets.tokenizer_json)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {symbol: 3 + index for index, symbol in enumerate(alphabet)}
    the, one, two = 3 + 256 + 1, ids["1"], ids["2"]
    assert tokenizer.encode("the12<tool><|end|>", add_special_tokens=False).ids == [the, one, two, 1, 0]
    assert tokenizer.decode([the, one, 0]) == "the1"
    assert tokenizer.decode([the, one, 0], skip_special_tokens=False) == "the1<|end|>"
    assert "[unused]" not in tokenizer.get_vocab()


def test_what_opens_every_text() -> None:
    """As the file says; where it says nothing, as llama.cpp has it for this pre-tokenizer."""
    for pre, flag, start in (
        ("smollm", True, [0]),
        ("smollm", None, []),
        ("llama-bpe", None, [0]),
        ("llama-bpe", False, []),
        ("qwen2", None, []),
    ):
        assets = tokenizer_assets(metadata(pre=pre, add_bos_token=flag, bos_token_id=0))
        tokenizer = HuggingFaceTokenizer.from_str(assets.tokenizer_json)
        assert tokenizer.encode("the").ids == start + tokenizer.encode("the", add_special_tokens=False).ids
        assert assets.bos_token == "<|end|>"


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no tokenizer": ({"model": None}, "holds no tokenizer"),
    "model": ({"model": "bert"}, "'bert' is not supported; supported: 'gpt2' (byte-level BPE) and 'llama'"),
    "pre": ({"pre": "falcon"}, "'falcon' is not supported; supported: 'smollm', 'gpt-2', 'llama-bpe', 'qwen2', "),
    "no pre": ({"pre": None}, "pre-tokenizer None"),
    "eos added": ({"add_eos_token": True}, "add_eos_token"),
    "bos added, but none": ({"add_bos_token": True}, "bos_token_id is missing"),
    "no tokens": ({"tokens": None}, "tokenizer.ggml.tokens"),
    "no merges": ({"merges": []}, "tokenizer.ggml.merges"),
    "types too few": ({"token_type": [NORMAL]}, "token_type"),
    "token type": ({"token_type": [UNKNOWN] * 261}, "token type 2"),
    "id too large": ({"eos_token_id": 261}, "eos_token_id is 261"),
    "merge of nothing": ({"merges": ["t h", "q q"]}, "'q q'"),
    "merge of one": ({"merges": ["th"]}, "'th'"),
    "token twice": ({"tokens": ["th"] * 261, "token_type": [NORMAL] * 261}, "twice"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses(case: str) -> None:
    changes, named = REFUSALS[case]
    with pytest.raises(TokenizerError) as caught:
        tokenizer_assets(metadata(**changes))
    assert named in str(caught.value)
