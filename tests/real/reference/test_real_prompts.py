"""Prompt programs of the families' own chat templates, as text and as ids, against transformers and Hugging Face."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as HuggingFaceTokenizer
from transformers import PreTrainedTokenizerFast

from random_text import random_texts
from real_templates import REFUSED, TEMPLATES, fetch_template
from real_tokenizers import compiled_json, fetch_tokenizer
from satchel.compile.chat_template import ChatTemplate
from satchel.compile.prompt import compile_prompt
from satchel.errors import PromptTemplateError
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.tokenizer import Tokenizer

OWN = ("qwen3", "gemma3", "llama3_1")  # templates that come with their tokenizers
CONVERSATIONS = 80


@dataclass(frozen=True)
class Family:
    """A template, the tokenizer that goes with it, and its beginning and end of a text."""

    template: str
    tokenizer_json: str
    bos_token: str
    eos_token: str


@cache
def tokenizer_of(definition: str) -> Tokenizer:
    return Tokenizer.from_bytes(compiled_json(definition))


@cache
def program_of(family: Family) -> PromptProgram:
    return compile_prompt(family.template, tokenizer_of(family.tokenizer_json), family.bos_token, family.eos_token)


@cache
def family(name: str) -> Family:
    folder = fetch_tokenizer(TEMPLATES.get(name, name))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = config["chat_template"] if name in OWN else fetch_template(name)
    definition = (folder / "tokenizer.json").read_text(encoding="utf-8")
    if name.startswith("phi"):
        definition = with_the_tokens_of_phi(definition)
    return Family(template, definition, config.get("bos_token") or "", config["eos_token"])


def with_the_tokens_of_phi(llama2: str) -> str:
    """Phi 3 has Llama 2's tokenizer and these; they take the blanks behind them."""
    tokenizer = HuggingFaceTokenizer.from_str(llama2)
    texts = ("<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False, rstrip=True) for text in texts])
    return str(tokenizer.to_str())


def renderer(family: Family, program: PromptProgram) -> Callable[[list[Turn], bool], str]:
    """transformers' rendering; of a template that would write today's date, the one where nobody tells it."""
    if "strftime_now" in program.unsupported:
        specials = {"bos_token": family.bos_token, "eos_token": family.eos_token}
        return ChatTemplate(family.template, specials).without_clock().render
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=HuggingFaceTokenizer.from_str(family.tokenizer_json),
        bos_token=family.bos_token or None,
        eos_token=family.eos_token,
        chat_template=family.template,
    )

    def render(turns: list[Turn], generation_prompt: bool) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text = theirs.apply_chat_template(messages, add_generation_prompt=generation_prompt, tokenize=False)
        assert isinstance(text, str)
        return text

    return render


def conversations(program: PromptProgram, specials: list[str]) -> Iterator[tuple[list[Turn], bool, bool]]:
    """(turns, with generation prompt, whether a session makes such): what sessions make, and any turns in any order."""
    source = random.Random(5)
    plain, attacking = random_texts(10_000, 6, []), random_texts(10_000, 7, specials)
    for index in range(CONVERSATIONS):
        texts = plain if index % 2 else attacking
        turns = [Turn("system", next(texts))] if "system" in program.roles and index % 3 else []
        for _ in range(source.randrange(3)):
            thought = f"<think>\n{next(texts)}\n</think>\n\n" if source.random() < 0.3 else ""
            turns += [Turn("user", next(texts)), Turn("assistant", thought + next(texts))]
        yield [*turns, Turn("user", next(texts))], True, True
        roles = [source.choice(tuple(program.roles)) for _ in range(source.randrange(1, 6))]
        for generation_prompt in (True, False):
            yield [Turn(role, next(texts)) for role in roles], generation_prompt, False


@pytest.mark.parametrize("name", [*OWN, *TEMPLATES])
def test_program_writes_what_the_template_writes(name: str) -> None:
    real = family(name)
    program = PromptProgram.from_json(program_of(real).to_json())
    tokenizer, theirs = tokenizer_of(real.tokenizer_json), HuggingFaceTokenizer.from_str(real.tokenizer_json)
    render = renderer(real, program)
    specials = [token.content for token in tokenizer.added_tokens if token.special]
    others = 0
    for turns, generation_prompt, of_a_session in conversations(program, specials):
        if program.objection(turns, generation_prompt):
            assert not of_a_session, turns
            continue
        others += not of_a_session
        expected = render(turns, generation_prompt)
        assert program.text(turns, generation_prompt) == expected
        ids = program.encode(tokenizer, turns, generation_prompt)
        if any(special in turn.content for turn in turns for special in specials):
            written = [token for token in program.render(turns, generation_prompt) if isinstance(token, int)]
            assert [token for token in ids if tokenizer.is_special(token)] == written  # none of them a user's
        else:
            assert ids == theirs.encode(expected, add_special_tokens=False).ids
    assert others > CONVERSATIONS // 20


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_represented_is_named(name: str) -> None:
    folder = fetch_tokenizer("qwen3")
    real = Family(fetch_template(name), (folder / "tokenizer.json").read_text(encoding="utf-8"), "<s>", "</s>")
    with pytest.raises(PromptTemplateError) as caught:
        program_of(real)
    assert REFUSED[name] in str(caught.value)


def test_qwen_3_forgets_what_it_thought_and_may_think_again() -> None:
    program = program_of(family("qwen3"))
    turns = [Turn("user", "a"), Turn("assistant", "<think>\nx\n</think>\n\ny"), Turn("user", "b")]
    assert program.text(turns) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\ny<|im_end|>\n<|im_start|>user\nb<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert program.objection(turns[:2], generation_prompt=False)
    assert program.objection([*turns[:2], Turn("user", "<tool_response>c</tool_response>")], generation_prompt=True)


def test_variables_of_gemma_itself_are_no_constructs() -> None:
    assert program_of(family("gemma3")).unsupported == ()
