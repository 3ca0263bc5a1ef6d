"""The default model's prompt program against transformers' own apply_chat_template."""

import random

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer
from transformers import PreTrainedTokenizerFast

from random_text import random_texts
from satchel.compile.prompt import compile_prompt
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.tokenizer import Tokenizer
from satchel.source.checkpoint import TokenizerAssets


@pytest.fixture(scope="module")
def program(assets: TokenizerAssets, tokenizer: Tokenizer) -> PromptProgram:
    return compile_prompt(assets.chat_template, tokenizer, assets.bos_token, assets.eos_token)


def test_ids_equal_transformers(assets: TokenizerAssets, tokenizer: Tokenizer, program: PromptProgram) -> None:
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=HuggingFaceTokenizer.from_str(assets.tokenizer_json),
        bos_token=assets.bos_token,
        eos_token=assets.eos_token,
        chat_template=assets.chat_template,
    )
    texts = random_texts(3000, seed=77, specials=[])
    source = random.Random(1)
    for _ in range(500):
        turns = [Turn(source.choice(["user", "assistant"]), next(texts)) for _ in range(source.randrange(1, 6))]
        if source.random() < 0.5:
            turns.insert(0, Turn("system", next(texts)))
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        for generation_prompt in (True, False):
            expected = theirs.apply_chat_template(messages, add_generation_prompt=generation_prompt, return_dict=False)
            assert program.encode(tokenizer, turns, generation_prompt) == expected, messages


def test_program_of_the_default_model(program: PromptProgram) -> None:
    assert program.default_system[1:2] == (
        "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face",
    )
    assert program.generation_prompt == (1, "assistant\n")
    assert (program.prefix, program.system, program.order, program.unsupported) == ((), "any", "any", ())
