"""The committed conformance cases are what the reference gives, and its tokenizers are Hugging Face's."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

FOLDER = Path(__file__).parents[3] / "conformance"


@pytest.fixture(scope="module")
def cases() -> ModuleType:
    specification = importlib.util.spec_from_file_location("conformance_generate", FOLDER / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_files_are_up_to_date(cases: ModuleType) -> None:
    for name, content in cases.files().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == content, f"run python conformance/generate.py ({name})"


@pytest.mark.parametrize("name", ["chat", "odd"])
def test_encode_cases_are_hugging_faces(cases: ModuleType, name: str) -> None:
    theirs = HuggingFaceTokenizer.from_str(cases.TOKENIZER_JSON[name])
    checked = 0
    for case in cases.encode_cases():
        has_surrogate = any("\ud800" <= character <= "\udfff" for character in case["text"])
        if case["tokenizer"] == name and not has_surrogate:
            theirs.encode_special_tokens = not case["special"]
            assert theirs.encode(case["text"], add_special_tokens=False).ids == case["ids"], case
            checked += 1
    assert checked > 100
