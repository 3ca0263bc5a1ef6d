"""The default model's own tokenizer, from its GGUF file."""

from pathlib import Path

import pytest

from satchel.compile.tokenizer import compile_tokenizer
from satchel.reference.tokenizer import Tokenizer
from satchel.source.checkpoint import TokenizerAssets
from satchel.source.gguf.header import read_header
from satchel.source.gguf.tokenizer import tokenizer_assets


@pytest.fixture(scope="session")
def assets(default_gguf: Path) -> TokenizerAssets:
    return tokenizer_assets(read_header(default_gguf).fields)


@pytest.fixture(scope="session")
def tokenizer(assets: TokenizerAssets) -> Tokenizer:
    return Tokenizer.from_bytes(compile_tokenizer(assets.tokenizer_json))
