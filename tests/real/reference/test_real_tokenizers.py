"""Real tokenizers against Hugging Face's on 20 000 random texts each, in Python and in Kotlin: not one difference.

tests/verify does the same on a million.
"""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from real_tokenizers import compiled_tokenizer, fetch_tokenizer, real_tokenizers
from satchel.cache import Cache
from satchel.package.android.sdk import compile_sdk
from satchel.reference.tokenizer import Tokenizer
from satchel.source.checkpoint import TokenizerAssets
from satchel.tools import Tools
from tokenizer_fuzz import hold_against_hugging_face

TEXTS = 20_000
LETTERS = {
    "one letter": "a" * 1_000_000,
    "blanks": " " * 1_000_000,
    "emoji": "\U0001f600" * 250_000,
    "line ends": "\n" * 1_000_000,
    "marks": "a" + "\u0301\u0323" * 250_000,
    "brackets": "<" * 1_000_000,
    "all of them": "a \U0001f600<\n\u0301" * 100_000,
}


@pytest.fixture(scope="module", params=["smollm2", *real_tokenizers()])
def named(request: pytest.FixtureRequest, assets: TokenizerAssets) -> tuple[str, str]:
    """Name and tokenizer.json."""
    name = str(request.param)
    if name == "smollm2":
        return name, assets.tokenizer_json
    return name, (fetch_tokenizer(name) / "tokenizer.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def binary(named: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_tokenizer(*named, tmp_path_factory.mktemp("tokenizer"))


def test_equal_hugging_face_in_python_and_kotlin(named: tuple[str, str], binary: Path, sdk_cache: Cache) -> None:
    sdk = compile_sdk(sdk_cache, Tools())
    assert hold_against_hugging_face(named[1], binary, sdk, TEXTS, seed=2024) == (TEXTS * 11 // 10, TEXTS * 11 // 10)


def test_a_megabyte_of_anything(named: tuple[str, str], binary: Path) -> None:
    """A quadratic step would take hours."""
    theirs = HuggingFaceTokenizer.from_str(named[1])
    ours = Tokenizer.from_bytes(binary.read_bytes())
    for text in LETTERS.values():
        text = text[:200_000]
        assert ours.encode(text, special=False) == theirs.encode(text, add_special_tokens=False).ids
