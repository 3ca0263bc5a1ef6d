"""The .litertlm container: its bytes, and a chat template that says what the prompt program says."""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import Environment

from satchel.bundle.manifest import SpecialIds
from satchel.package import litertlm
from satchel.reference.prompt import KeptAfter, PromptProgram, RoleForm, Turn

CHAT = PromptProgram(
    kind="chat",
    roles={
        "system": RoleForm((1, "system\n"), (2, "\n"), trim=False),
        "user": RoleForm((1, 'user "é"\n'), (2, "\n"), trim=True),
        "assistant": RoleForm((1, "assistant\\\n"), (2, "\n"), trim=False),
    },
    prefix=(3,),
    default_system=(1, "system\nBe brief.", 2, "\n"),
    generation_prompt=(1, "assistant\\\n"),
    special_tokens={1: "<|start|>", 2: "<|end|>", 3: "<s>"},
)
_MORE = {
    **CHAT.roles,
    "assistant": RoleForm((1, "assistant\\\n"), (2,), trim=False, kept_after=KeptAfter("</think>", "\n")),
}
FOLDED = replace(CHAT, roles=_MORE, default_system=(), system="folded", order="alternating", end=(3,))
WHOLE = replace(FOLDED, folded_trim="all")
LAST = replace(FOLDED, system="folded_last", last="user")
OMITTING = replace(CHAT, roles={**_MORE, "system": replace(CHAT.roles["system"], omit_empty=True)}, default_system=())
CONVERSATIONS = [
    [Turn("user", " hi \n")],
    [Turn("system", " {{ x }} "), Turn("user", "a")],
    [Turn("user", "a"), Turn("assistant", " b "), Turn("user", "c")],
    [
        Turn("system", ""),
        Turn("user", " a"),
        Turn("assistant", "<think>x</think>\n\n b</think>\n c "),
        Turn("user", " d "),
    ],
    [Turn("system", "s "), Turn("user", " "), Turn("assistant", "b"), Turn("user", "c")],
]


@pytest.mark.parametrize("program", [CHAT, FOLDED, WHOLE, LAST, OMITTING])
@pytest.mark.parametrize("turns", CONVERSATIONS)
@pytest.mark.parametrize("generation_prompt", [True, False])
@pytest.mark.parametrize("in_parts", [True, False])
def test_the_template_renders_what_the_program_does(
    program: PromptProgram, turns: list[Turn], generation_prompt: bool, in_parts: bool
) -> None:
    """However the engine hands the content over: as a string, or as a list of parts."""
    template = litertlm.chat_template(program)
    assert template is not None
    messages = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.content}] if in_parts else turn.content}
        for turn in turns
    ]
    rendered = Environment().from_string(template).render(messages=messages, add_generation_prompt=generation_prompt)
    assert rendered == program.text(turns, generation_prompt)


def test_a_raw_model_has_no_template() -> None:
    assert litertlm.chat_template(PromptProgram("raw")) is None


def test_sections_lie_at_blocks_and_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    program = tmp_path / "model.tflite"
    program.write_bytes(b"TFL3" * 5000)
    tokens = SpecialIds(bos=1, eos=2, pad=None, stop=(2, 300))
    written = []
    for name in ("first", "second"):
        path = tmp_path / name
        litertlm.write(path, program, '{"é": 1}', CHAT, 2048, tokens)
        written.append(path.read_bytes())
    data = written[0]
    assert written[1] == data
    assert data.startswith(b"LITERTLM\x01\0\0\0\x07\0\0\0")
    metadata, tokenizer = data[16384 : 2 * 16384].rstrip(b"\0"), data[2 * 16384 : 3 * 16384]
    # stop tokens 2 and 300, context 2048, generic model, template
    assert metadata.startswith(
        bytes.fromhex("1205 0a03 0a01 02  1206 0a04 0a02 ac02  28 8010  3202 0a00  3a".replace(" ", ""))
    )
    assert int.from_bytes(tokenizer[:8], "little") == len('{"é": 1}'.encode())
    assert zlib.decompressobj().decompress(tokenizer[8:]).decode() == '{"é": 1}'
    assert data[3 * 16384 :] == program.read_bytes()
    other = tmp_path / "other"
    litertlm.write(other, program, '{"é": 2}', CHAT, 2048, tokens)
    assert len(other.read_bytes()) == len(data)
    assert other.read_bytes()[:16384] != data[:16384]  # another id
