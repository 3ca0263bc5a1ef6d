"""golden.json: complete, made by Hugging Face, and a build stops when the reference differs."""

import json
import math

import numpy as np
import pytest

from satchel.compile.golden import TeacherForced, build_golden
from satchel.compile.prompt import compile_prompt
from satchel.compile.tokenizer import compile_tokenizer
from satchel.errors import InternalError
from satchel.reference.prompt import PromptProgram
from satchel.reference.tokenizer import Tokenizer
from tiny_model import tiny_tokenizer_json

TEMPLATE = "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_bytes(compile_tokenizer(tiny_tokenizer_json()))


@pytest.fixture(scope="module")
def program(tokenizer: Tokenizer) -> PromptProgram:
    return compile_prompt(TEMPLATE, tokenizer)


def test_vectors_hold_for_the_reference(tokenizer: Tokenizer, program: PromptProgram) -> None:
    golden = json.loads(build_golden(tiny_tokenizer_json(), tokenizer, program))
    assert "teacher_forced" not in golden
    assert len(golden["encode"]) > 50
    assert {case["special"] for case in golden["encode"]} == {True, False}
    assert any("\ufffd" in case["text"] for case in golden["decode"])
    assert len(golden["prompts"]) == 7
    assert {case["temperature"] for case in golden["sampler"]} >= {0.0, 1.0}
    attack = golden["prompts"][-1]
    assert "<|end|>" in attack["turns"][0]["content"]
    assert attack["ids"].count(257) == 1


def test_teacher_forced_is_rounded(tokenizer: Tokenizer, program: PromptProgram) -> None:
    reference = TeacherForced([1, 2, 3], np.array([-1.23456789, -math.log(2.0)], dtype=np.float32), 0.05)
    golden = json.loads(build_golden(tiny_tokenizer_json(), tokenizer, program, reference))
    assert golden["teacher_forced"] == {
        "ids": [1, 2, 3],
        "log_probabilities": [-1.2346, -0.6931],
        "mean_tolerance": 0.05,
    }


def test_a_raw_program_has_no_prompts(tokenizer: Tokenizer) -> None:
    assert json.loads(build_golden(tiny_tokenizer_json(), tokenizer, PromptProgram("raw")))["prompts"] == []


def test_a_wrong_reference_stops_the_build(tokenizer: Tokenizer, program: PromptProgram) -> None:
    other = json.loads(tiny_tokenizer_json())
    other["model"]["vocab"] = {token: 255 - token_id for token, token_id in other["model"]["vocab"].items()}
    with pytest.raises(InternalError, match="unlike Hugging Face's"):
        build_golden(json.dumps(other), tokenizer, program)
