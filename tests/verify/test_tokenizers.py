"""Real tokenizers against Hugging Face's on 1 000 000 random texts each, in Python and in Kotlin.

About five minutes for each tokenizer on 2 cores; `make verify`.
"""

from pathlib import Path

import pytest

from real_tokenizers import compiled_tokenizer, fetch_tokenizer, real_tokenizers
from satchel.cache import Cache
from satchel.package.android.sdk import compile_sdk
from satchel.source.gguf.header import read_header
from satchel.source.gguf.tokenizer import tokenizer_assets
from satchel.tools import Tools
from tokenizer_fuzz import hold_against_hugging_face

TEXTS = 1_000_000


@pytest.mark.parametrize("name", ["smollm2", *real_tokenizers()])
def test_equal_hugging_face(name: str, default_gguf: Path, tmp_path: Path) -> None:
    if name == "smollm2":
        tokenizer_json = tokenizer_assets(read_header(default_gguf).fields).tokenizer_json
    else:
        tokenizer_json = (fetch_tokenizer(name) / "tokenizer.json").read_text(encoding="utf-8")
    binary = compiled_tokenizer(name, tokenizer_json, tmp_path)
    sdk = compile_sdk(Cache.default(), Tools())
    assert hold_against_hugging_face(tokenizer_json, binary, sdk, TEXTS, seed=77) == (TEXTS * 11 // 10,) * 2
