"""Compiles a Jinja chat template into a prompt program, by asking it.

The template is rendered with marked contents; what stands around the marks gives the program. The program is then held
against the template on many conversations, as text and as ids. What differs is refused, never approximated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice, product
from typing import Literal

from jinja2.exceptions import TemplateError

from satchel.errors import PromptTemplateError
from satchel.reference.chat_template import ChatTemplate
from satchel.reference.prompt import TRIMMED, PromptProgram, RoleForm, Segments, Turn
from satchel.reference.tokenizer import AddedToken, Tokenizer
from satchel.reference.tokenizer_format import AddedFlag

_MARKS = {"system": "Qsystemq", "user": "Quserq", "assistant": "Qassistantq", "again": "Qagainq"}

_CONTENTS = (
    "What is the capital of France?",
    "",
    " ",
    "  two blanks before, one blank and a line after \n",
    "\n\nlines\r\n\tand tabs\n\n",
    "\u00a0no-break\u3000wide\u2028",
    "\x1cseparators\x1f",
    "{{ messages }} {% if true %}x{% endif %} {# note #} {{ '<' }}",
    "system\nuser\nassistant",
    "it's 42 \u00e9\u0301 \u4f60\u597d \U0001f468\u200d\U0001f469\u200d\U0001f467 \x00",
    "<b>&amp; \\n \"quoted\" 'single'</b>",
    "<think>no</think> [INST] text [/INST]",
)

# u, a, s: turns of user, assistant, system. A chat session makes those of the first line; anybody can make the others.
_SHAPES = ("u", "su", "ua", "sua", "uau", "suau", "uauau", "suauau")
_ODD_SHAPES = ("s", "a", "uu", "suu", "au", "uaa", "us", "uas", "uasu", "ssu", "sa")
_BY_PLACE = "turns are written differently by their place (the first, between others, the last)"

_ROLE_OF_LETTER = {"s": "system", "u": "user", "a": "assistant"}


def compile_prompt(
    chat_template: str | None, tokenizer: Tokenizer, bos_token: str = "", eos_token: str = ""
) -> PromptProgram:
    """The prompt program of a chat template; without a template one that takes raw prompts only.

    Raises PromptTemplateError, naming the construct or the conversation, if plain turns can't be represented exactly.
    """
    if chat_template is None:
        return PromptProgram("raw")
    template = ChatTemplate(chat_template, {"bos_token": bos_token, "eos_token": eos_token})
    _refuse_dates(template)
    try:
        loosest = _infer(template, tokenizer)
    except TemplateError as error:
        raise PromptTemplateError(f"the chat template refuses plain turns: {error}") from error
    candidates: list[tuple[Literal["any", "first", "folded"], Literal["any", "alternating"]]]
    candidates = [("any", "any"), ("first", "any"), ("first", "alternating")]
    if loosest.system == "folded":
        candidates = [("folded", "any"), ("folded", "alternating")]
    for system, order in candidates:
        program = replace(loosest, system=system, order=order)
        difference = _difference(program, template, tokenizer)
        if difference is None:
            return program
    raise PromptTemplateError(f"the chat template can't be represented as a prompt program: {difference}")


# --- inference --------------------------------------------------------------------------------------------------


def _infer(template: ChatTemplate, tokenizer: Tokenizer) -> PromptProgram:
    """The program that explains how the template renders marked contents, not yet proved on anything else."""
    user = _around(template, ["user"])
    answered = _around(template, ["user", "assistant"])
    again = _around(template, ["user", "assistant", "again"])

    user_after = user[-1]
    assistant_before = _without_prefix(answered[1], user_after, _BY_PLACE)
    assistant_after = answered[-1]
    user_before = _without_prefix(again[2], assistant_after, _BY_PLACE)
    head = _without_suffix(user[0], user_before, _BY_PLACE)

    texts = {"user": (user_before, user_after), "assistant": (assistant_before, assistant_after)}
    prefix, default_system = head, ""
    first = [] if _refuses(template, ["system", "user"]) else _around(template, ["system", "user"])
    folded = bool(first) and first[0].startswith(user[0]) and not first[1].endswith(user_before)
    if folded:
        texts = {"system": (first[0][len(user[0]) :], first[1]), **texts}
    elif first:
        system_after = _without_suffix(first[1], user_before, "a system turn is not written as a turn of its own")
        prefix = _prefix(template, first[0], head, assistant_after)
        default_system = head[len(prefix) :]
        texts = {"system": (first[0][len(prefix) :], system_after), **texts}

    plain = template.render(_turns(["user"]), False)
    generation_prompt = _without_prefix(
        template.render(_turns(["user"]), True), plain, "the generation prompt changes the text before it"
    )

    used: dict[int, str] = {}

    def cut(text: str) -> Segments:
        segments: list[int | str] = []
        for part in tokenizer.cut_special(text):
            if isinstance(part, AddedToken):
                _require_plain(part)
                used[part.id] = part.content
                segments.append(part.id)
            else:
                segments.append(part)
        return tuple(segments)

    return PromptProgram(
        kind="chat",
        roles={
            role: RoleForm(cut(before), cut(after), _is_trimmed(template, role))
            for role, (before, after) in texts.items()
        },
        prefix=cut(prefix),
        default_system=cut(default_system),
        generation_prompt=cut(generation_prompt),
        system="folded" if folded else "any",
        special_tokens=used,
        unsupported=template.constructs(),
    )


def _turns(marks: Sequence[str], pad: Mapping[str, tuple[str, str]] | None = None) -> list[Turn]:
    pad = pad or {}
    turns = []
    for mark in marks:
        before, after = pad.get(mark, ("", ""))
        turns.append(Turn("user" if mark == "again" else mark, before + _MARKS[mark] + after))
    return turns


def _around(template: ChatTemplate, marks: Sequence[str]) -> list[str]:
    """The texts before, between and after the marked contents of a conversation."""
    try:
        rest = template.render(_turns(marks), False)
    except TemplateError as error:
        raise PromptTemplateError(f"the chat template refuses {' and '.join(marks)} turns: {error}") from error
    pieces = []
    for mark in marks:
        if rest.count(_MARKS[mark]) != 1:
            raise PromptTemplateError(
                f"the chat template changes, drops, moves or repeats the content of the {mark} turn in {list(marks)}"
            )
        piece, rest = rest.split(_MARKS[mark])
        pieces.append(piece)
    return [*pieces, rest]


def _refuses(template: ChatTemplate, marks: Sequence[str]) -> bool:
    try:
        template.render(_turns(marks), False)
    except TemplateError:
        return True
    return False


def _prefix(template: ChatTemplate, system_head: str, default_head: str, assistant_after: str) -> str:
    """What opens every prompt, told apart from what opens a system turn by a system turn later on, if that works."""
    if system_head.startswith(default_head):
        return default_head
    marks = ["user", "assistant", "system"]
    if not _refuses(template, marks):
        rendered = template.render(_turns(marks), False)
        _, _, behind = rendered.partition(_MARKS["assistant"] + assistant_after)
        before, mark, _ = behind.partition(_MARKS["system"])
        prefix = system_head.removesuffix(before)
        if mark and system_head.endswith(before) and default_head.startswith(prefix):
            return prefix
    return ""


def _is_trimmed(template: ChatTemplate, role: str) -> bool:
    """Whether blanks around a turn's content are taken away, all of them or none."""
    marks = {"system": ["system", "user"], "user": ["user"], "assistant": ["user", "assistant"]}[role]
    padding = f" \n{TRIMMED}"
    padded = template.render(_turns(marks, {role: (padding, padding)}), False)
    plain = template.render(_turns(marks), False)
    if padded == plain:
        return True
    if padded == plain.replace(_MARKS[role], padding + _MARKS[role] + padding):
        return False
    raise PromptTemplateError(f"the chat template takes some blanks off the content of {role} turns and keeps others")


def _require_plain(token: AddedToken) -> None:
    if token.flags & (AddedFlag.LSTRIP | AddedFlag.RSTRIP):
        raise PromptTemplateError(
            f"the chat template uses the special token {token.content!r}, which takes blanks off its neighbours"
        )


def _without_prefix(text: str, prefix: str, otherwise: str) -> str:
    if not text.startswith(prefix):
        raise PromptTemplateError(f"the chat template can't be represented as a prompt program: {otherwise}")
    return text[len(prefix) :]


def _without_suffix(text: str, suffix: str, otherwise: str) -> str:
    if not text.endswith(suffix):
        raise PromptTemplateError(f"the chat template can't be represented as a prompt program: {otherwise}")
    return text.removesuffix(suffix)


# --- proof ------------------------------------------------------------------------------------------------------


def probe_conversations() -> Iterator[list[Turn]]:
    """Every shape of conversation with every content, alone and next to others."""
    for shape, start in product(_SHAPES + _ODD_SHAPES, range(len(_CONTENTS))):
        contents = islice(cycle(_CONTENTS), start, None)
        yield [Turn(_ROLE_OF_LETTER[letter], content) for letter, content in zip(shape, contents, strict=False)]
        yield [Turn(_ROLE_OF_LETTER[letter], _CONTENTS[start]) for letter in shape]


def _difference(program: PromptProgram, template: ChatTemplate, tokenizer: Tokenizer) -> str | None:
    """The first conversation which the program takes and writes unlike the template, as a sentence; None if equal."""
    for turns, generation_prompt in product(probe_conversations(), (False, True)):
        if program.objection(turns, generation_prompt):
            continue
        shown = f"for {[(turn.role, turn.content) for turn in turns]}"
        try:
            expected = template.render(turns, generation_prompt)
        except TemplateError as error:
            return f"the template raises {str(error)!r} {shown}"
        text = program.text(turns, generation_prompt)
        if text != expected:
            return f"it gives {text!r} instead of {expected!r} {shown}"
        if program.encode(tokenizer, turns, generation_prompt) != tokenizer.encode(expected, special=True):
            return f"its ids differ from those of the rendered text {shown}"
    return None


def _refuse_dates(template: ChatTemplate) -> None:
    turns = _turns(["user"])
    try:
        renders = {template.render(turns, True, moment) for moment in (0, 1)}
    except TemplateError as error:
        raise PromptTemplateError(f"the chat template refuses a single user turn: {error}") from error
    if len(renders) > 1:
        raise PromptTemplateError("the chat template writes the date (strftime_now), which a prompt program can't")
