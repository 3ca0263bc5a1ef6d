"""Tokenizer, template and sampling defaults of a folder, from every file in which they may lie."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from satchel.errors import CorruptModelError, PromptTemplateError, TokenizerError
from satchel.source.directory import open_directory
from satchel.source.sampling import sampling_defaults
from tiny_model import write_json

MakeDirectory = Callable[..., Path]
SETTINGS = "tokenizer_config.json"


def with_settings(folder: Path, **changes: Any) -> Path:
    """tokenizer_config.json with entries changed, or taken out where they are None."""
    table = {**json.loads((folder / SETTINGS).read_text()), **changes}
    write_json(folder / SETTINGS, {name: value for name, value in table.items() if value is not None})
    return folder


@pytest.mark.parametrize("value", ["<|end|>", {"content": "<|end|>", "lstrip": False}])
def test_a_token_that_only_the_map_names(make_directory: MakeDirectory, value: Any) -> None:
    folder = with_settings(make_directory(), eos_token=None)
    write_json(folder / "special_tokens_map.json", {"eos_token": value, "pad_token": "<|stop|>"})
    tokenizer = open_directory(folder).tokenizer
    assert (tokenizer.eos_token, tokenizer.eos_id, tokenizer.pad_id) == ("<|end|>", 257, 258)


def test_two_names_for_one_token_are_refused(make_directory: MakeDirectory) -> None:
    folder = make_directory()
    write_json(folder / "special_tokens_map.json", {"eos_token": "<|end|>"})
    assert open_directory(folder).tokenizer.eos_id == 257
    write_json(folder / "special_tokens_map.json", {"eos_token": "<|stop|>"})
    with pytest.raises(TokenizerError, match=r"gives '<\|end\|>' as eos_token, special_tokens_map\.json '<\|stop\|>'"):
        open_directory(folder)


def test_a_token_that_is_no_text_is_refused(make_directory: MakeDirectory) -> None:
    with pytest.raises(TokenizerError, match="bos_token is 7"):
        open_directory(with_settings(make_directory(), bos_token=7))


@pytest.mark.parametrize(("text", "token", "said"), [("<|im_end|>", 259, "does not add it"), ("<|end|>", 3, "as 257")])
def test_added_tokens_that_tokenizer_json_does_not_have_are_refused(
    make_directory: MakeDirectory, text: str, token: int, said: str
) -> None:
    folder = with_settings(make_directory(), added_tokens_decoder={"257": {"content": "<|end|>", "special": True}})
    write_json(folder / "added_tokens.json", {"<|stop|>": 258})
    open_directory(folder)
    write_json(folder / "added_tokens.json", {text: token})
    with pytest.raises(TokenizerError, match=f"added_tokens.json adds the token .* as .{token}.*{said}"):
        open_directory(folder)
    (folder / "added_tokens.json").unlink()
    with_settings(folder, added_tokens_decoder={str(token): {"content": text}})
    with pytest.raises(TokenizerError, match=f"tokenizer_config.json adds the token .*{said}"):
        open_directory(folder)


def test_templates_from_every_place(make_directory: MakeDirectory) -> None:
    folder = with_settings(make_directory(), chat_template=None)
    assert open_directory(folder).tokenizer.chat_template is None
    write_json(folder / "chat_template.json", {"chat_template": "P"})
    with pytest.raises(PromptTemplateError, match=r"in chat_template\.json.*as chat_template\.jinja"):
        open_directory(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("T")
    with pytest.raises(PromptTemplateError, match=r"chat templates tool_use, and none is named default"):
        open_directory(folder)
    with_settings(folder, chat_template=[{"name": "rag", "template": "R"}, {"name": "tools", "template": "T"}])
    with pytest.raises(PromptTemplateError, match=r"chat templates rag, tools, and none is named default"):
        open_directory(folder)
    before = open_directory(with_settings(folder, chat_template="S"))
    assert before.tokenizer.chat_template == "S"
    (folder / "additional_chat_templates" / "default.jinja").write_text("D")
    assert open_directory(folder).tokenizer.chat_template == "D"
    assert open_directory(folder).source.sha256 != before.source.sha256
    (folder / "chat_template.jinja").write_text("J")
    assert open_directory(folder).tokenizer.chat_template == "J"


def test_a_template_that_is_no_text_is_refused(make_directory: MakeDirectory) -> None:
    with pytest.raises(PromptTemplateError, match=r"chat_template in tokenizer_config\.json is 3"):
        open_directory(with_settings(make_directory(), chat_template=3))


@pytest.mark.parametrize(
    ("generation", "defaults"),
    [
        ({}, {"temperature": 0.0}),
        ({"temperature": 0.6, "top_k": 20}, {"temperature": 0.0}),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"do_sample": False, "repetition_penalty": 1.1}, {"temperature": 0.0, "repetition_penalty": 1.1}),
        (
            {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "repetition_penalty": 1.05},
            {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05},
        ),
        (
            {"do_sample": True, "temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0.1},
            {"temperature": 1.0, "min_p": 0.1},
        ),
    ],
)
def test_sampling_is_as_the_source_recommends(generation: dict[str, Any], defaults: dict[str, Any]) -> None:
    assert sampling_defaults(generation) == defaults


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "0.6"),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_k", 2.5),
        ("top_k", True),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", [0.1]),
        ("repetition_penalty", 10**400),
    ],
)
def test_a_recommendation_that_is_none_is_refused(make_directory: MakeDirectory, name: str, value: Any) -> None:
    folder = make_directory()
    write_json(folder / "generation_config.json", {"do_sample": True, name: value})
    with pytest.raises(CorruptModelError, match=f"generation_config.json gives .* as {name}"):
        open_directory(folder)
