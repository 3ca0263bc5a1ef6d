"""The committed conformance cases are what the reference gives, and its tokenizers are Hugging Face's."""

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

import generate
from cases.tokenizer import TOKENIZER_JSON, decode_cases, encode_cases


def test_files_are_up_to_date() -> None:
    for name, content in generate.files().items():
        committed = (generate.HERE / name).read_text(encoding="utf-8")
        assert committed == content, f"run python conformance/generate.py ({name})"


@pytest.mark.parametrize("name", TOKENIZER_JSON)
def test_encode_cases_are_hugging_faces(name: str) -> None:
    theirs = HuggingFaceTokenizer.from_str(TOKENIZER_JSON[name])
    checked = 0
    for case in encode_cases():
        has_surrogate = any("\ud800" <= character <= "\udfff" for character in case["text"])
        if case["tokenizer"] == name and not has_surrogate:
            theirs.encode_special_tokens = not case["special"]
            assert theirs.encode(case["text"], add_special_tokens=False).ids == case["ids"], case
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("name", TOKENIZER_JSON)
def test_decode_cases_are_hugging_faces(name: str) -> None:
    theirs = HuggingFaceTokenizer.from_str(TOKENIZER_JSON[name])
    for case in decode_cases():
        ids = [token for token in case["ids"] if token < theirs.get_vocab_size()]
        if case["tokenizer"] == name:
            assert theirs.decode(ids, skip_special_tokens=case["skip_special"]) == case["text"], case
