"""Compiles a Jinja chat template into a prompt program, by asking it.

The template is rendered with marked contents; what stands around the marks gives the program. The program is then held
against the template on many conversations, as text and as ids. What differs is refused, never approximated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from os.path import commonprefix

from jinja2.exceptions import TemplateError

from satchel.compile.chat_template import ChatTemplate
from satchel.compile.prompt_proof import difference
from satchel.errors import PromptTemplateError
from satchel.reference.prompt import (
    TRIMMED,
    KeptAfter,
    Last,
    Order,
    PromptProgram,
    Refused,
    RoleForm,
    Segments,
    System,
    Turn,
)
from satchel.reference.tokenizer import AddedToken, Tokenizer

_MARKS = {"system": "Qsystemq", "user": "Quserq", "assistant": "Qassistantq", "again": "Qagainq"}

_LOOSEST_FIRST: tuple[tuple[System, Order], ...] = (("any", "any"), ("first", "any"), ("first", "alternating"))
_WHAT_TO_DO = (
    "Simplify the template (chat_template in the model's tokenizer_config.json), "
    "or take it out there to build for raw prompts only"
)


def compile_prompt(
    chat_template: str | None, tokenizer: Tokenizer, bos_token: str = "", eos_token: str = ""
) -> PromptProgram:
    """The prompt program of a chat template; without a template one that takes raw prompts only.

    A template that writes the date is taken as it renders where nobody tells it, if it then writes one of its own.
    Raises PromptTemplateError, naming the construct or the conversation, if plain turns can't be represented exactly.
    """
    if chat_template is None:
        return PromptProgram("raw")
    template = _with_its_own_date(ChatTemplate(chat_template, {"bos_token": bos_token, "eos_token": eos_token}))
    try:
        loosest = _infer(template, tokenizer)
    except TemplateError as error:
        raise PromptTemplateError(f"the chat template refuses plain turns: {error}") from error
    for program in _from_loose_to_strict(loosest, template):
        unlike = difference(program, template, tokenizer)
        if unlike is None:
            return program
    raise _unrepresentable(str(unlike))


def _from_loose_to_strict(program: PromptProgram, template: ChatTemplate) -> Iterator[PromptProgram]:
    """The program for ever fewer conversations."""
    domains = _LOOSEST_FIRST
    if program.system in ("folded", "folded_last"):
        domains = ((program.system, "any"), (program.system, "alternating"))
    lasts: tuple[Last, ...] = ("user",) if program.system == "folded_last" else ("any", "user")
    sought = template.sought()
    user = program.roles["user"]
    refused = tuple(Refused(start, end) for start, end in product(sought.start, sought.end))
    for form in (user, replace(user, refused=refused)) if refused else (user,):
        for last, (system, order) in product(lasts, domains):
            yield replace(program, roles={**program.roles, "user": form}, system=system, order=order, last=last)


def _unrepresentable(why: str) -> PromptTemplateError:
    return PromptTemplateError(f"the chat template can't be represented as a prompt program: {why}. {_WHAT_TO_DO}")


def _infer(template: ChatTemplate, tokenizer: Tokenizer) -> PromptProgram:
    """The program that explains how the template renders marked contents, not yet proved on anything else."""
    head, user_tail = _around(template, ["user"])
    asking = template.render(_turns(["user"]), True)
    if not asking.startswith(head + _MARKS["user"]):
        raise _unrepresentable("the generation prompt changes the text before it")
    asking = asking.removeprefix(head + _MARKS["user"])
    again = _around(template, ["user", "assistant", "again"])

    user_after = _common_start([user_tail, asking, again[1]], tokenizer)
    end = user_tail.removeprefix(user_after)
    assistant_before = again[1].removeprefix(user_after)
    assistant_tail = _around(template, ["user", "assistant"])[-1]
    assistant_after = assistant_tail.removesuffix(end)
    if not assistant_tail.endswith(end) or not again[2].startswith(assistant_after):
        raise _by_place("assistant", "ends with", assistant_tail, "last", again[2], "earlier")
    user_before = again[2].removeprefix(assistant_after)
    if not head.endswith(user_before):
        raise _by_place("user", "begins with", head, "first", user_before, "later")
    head = head.removesuffix(user_before)
    texts = {"user": (user_before, user_after), "assistant": (assistant_before, assistant_after)}

    prefix, default_system = head, ""
    system: System = "any"
    constructs = set(template.constructs())
    if _drops_system_turns(template):
        constructs.add("role system")
    elif not _refuses(template, ["system", "user"]):
        first = _around(template, ["system", "user"])
        if first[0].startswith(head + user_before) and not first[1].endswith(user_before):
            system = "folded_last" if _folds_into_the_last_turn(template) else "folded"
            texts = {"system": (first[0].removeprefix(head + user_before), first[1]), **texts}
        else:
            if not first[1].endswith(user_before):
                raise _unrepresentable("a system turn is not written as a turn of its own")
            prefix = _prefix(template, first[0], head, assistant_after)
            default_system = head.removeprefix(prefix)
            texts = {"system": (first[0].removeprefix(prefix), first[1].removesuffix(user_before)), **texts}

    used: dict[int, str] = {}

    def cut(text: str) -> Segments:
        segments: list[int | str] = []
        for part in tokenizer.cut_special(text):
            if isinstance(part, AddedToken):
                used[part.id] = part.content
                segments.append(part.id)
            else:
                segments.append(part)
        return tuple(segments)

    trims_all = system == "folded" and _trims_all_that_is_folded(template)
    roles = {}
    for role, (before, after) in texts.items():
        trim = _is_trimmed(template, role, at_the_start=role != "system" or not trims_all)
        kept_after = _kept_after(template, role, trim)
        omit_empty = role == "system" and _omits_empty_system_turns(template)
        roles[role] = RoleForm(cut(before), cut(after), trim, kept_after, omit_empty)
    return PromptProgram(
        kind="chat",
        roles=roles,
        prefix=cut(prefix),
        default_system=cut(default_system),
        generation_prompt=cut(asking.removeprefix(user_after)),
        end=cut(end),
        system=system,
        folded_trim="all" if trims_all else "content",
        special_tokens=used,
        unsupported=tuple(sorted(constructs)),
    )


# In these every role has its place, the last turn is a user's, and so every template knows how to write them.
_AMONG_OTHERS = {
    "system": ["system", "user"],
    "user": ["user"],
    "assistant": ["user", "assistant", "again"],
}


def _turns(marks: Sequence[str], contents: Mapping[str, str] | None = None) -> list[Turn]:
    """Turns whose contents are their marks, or what is given instead."""
    contents = {**_MARKS, **(contents or {})}
    return [Turn("user" if mark == "again" else mark, contents[mark]) for mark in marks]


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
                f"the chat template changes, drops, moves or repeats the content of the {mark} turn in {list(marks)}. "
                f"{_WHAT_TO_DO}"
            )
        piece, rest = rest.split(_MARKS[mark])
        pieces.append(piece)
    return [*pieces, rest]


def _common_start(texts: Sequence[str], tokenizer: Tokenizer) -> str:
    """What all begin with, whole special tokens and text."""
    common = ""
    for parts in zip(*(tokenizer.cut_special(text) for text in texts), strict=False):
        written = [part.content if isinstance(part, AddedToken) else part for part in parts]
        if any(part != parts[0] for part in parts):
            if all(isinstance(part, str) for part in parts):
                common += commonprefix(written)  # noqa: RUF071 (characters are what is meant)
            break
        common += written[0]
    return common


def _refuses(template: ChatTemplate, marks: Sequence[str]) -> bool:
    try:
        template.render(_turns(marks), False)
    except TemplateError:
        return True
    return False


def _drops_system_turns(template: ChatTemplate) -> bool:
    marks = ["system", "user"]
    return not _refuses(template, marks) and _MARKS["system"] not in template.render(_turns(marks), False)


def _folds_into_the_last_turn(template: ChatTemplate) -> bool:
    rendered = template.render(_turns(["system", "user", "assistant", "again"]), False)
    return rendered.find(_MARKS["system"]) > rendered.find(_MARKS["assistant"])


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


def _is_trimmed(template: ChatTemplate, role: str, at_the_start: bool) -> bool:
    """Whether blanks around a turn's content are taken away, all of them or none.

    at_the_start: blanks before the content are looked at too.
    """
    padding = f" \n{TRIMMED}"
    padded = (padding if at_the_start else "") + _MARKS[role] + padding
    plain = template.render(_turns(_AMONG_OTHERS[role]), False)
    rendered = template.render(_turns(_AMONG_OTHERS[role], {role: padded}), False)
    if rendered == plain:
        return True
    if rendered == plain.replace(_MARKS[role], padded):
        return False
    _, _, behind = rendered.partition(_MARKS[role])
    place = "beginning" if behind.startswith(padding) else "end"
    raise PromptTemplateError(
        f"the chat template takes blanks off the {place} of {role} turns, but not all around them. {_WHAT_TO_DO}"
    )


def _trims_all_that_is_folded(template: ChatTemplate) -> bool:
    """Whether a user turn with a system turn inside is trimmed as a whole: its own content keeps blanks before it."""
    marks = ["system", "user"]
    rendered = template.render(_turns(marks, {"user": f" {_MARKS['user']} "}), False)
    return rendered == template.render(_turns(marks), False).replace(_MARKS["user"], f" {_MARKS['user']}")


def _kept_after(template: ChatTemplate, role: str, trim: bool) -> KeptAfter | None:
    """The text that ends what a turn's content loses, such as a model's reasoning."""
    plain = template.render(_turns(_AMONG_OTHERS[role]), False)
    blanks = f"\n\n {TRIMMED}"
    for text, taken in product(template.sought().inside, ("", "\n", TRIMMED)):
        content = f"dropped{text}{blanks}{_MARKS[role]}"
        kept = _MARKS[role] if trim else blanks.lstrip(taken) + _MARKS[role]
        if template.render(_turns(_AMONG_OTHERS[role], {role: content}), False) == plain.replace(_MARKS[role], kept):
            return KeptAfter(text, taken)
    return None


def _omits_empty_system_turns(template: ChatTemplate) -> bool:
    """Whether a system turn without text is as if it were not there, and not written without text."""
    marks = ["system", "user"]
    without_text = template.render(_turns(marks), False).replace(_MARKS["system"], "")
    rendered = template.render(_turns(marks, {"system": ""}), False)
    return rendered != without_text and rendered == template.render(_turns(["user"]), False)


def _by_place(role: str, verb: str, one: str, place: str, other: str, other_place: str) -> PromptTemplateError:
    return _unrepresentable(
        f"{role} turns are written differently by their place: the {place} one {verb} {one!r}, {other_place} ones with "
        f"{other!r}"
    )


def _with_its_own_date(template: ChatTemplate) -> ChatTemplate:
    """The template itself if it writes no date, else as it renders where nobody tells it the date."""
    turns = _turns(["user"])
    try:
        renders = {template.render(turns, True, moment) for moment in (0, 1)}
    except TemplateError as error:
        raise PromptTemplateError(f"the chat template refuses a single user turn: {error}") from error
    if len(renders) == 1:
        return template
    fixed = template.without_clock()
    try:
        fixed.render(turns, True)
    except TemplateError as error:
        raise PromptTemplateError(
            "the chat template writes today's date (strftime_now), which a prompt program can't, and has no other: "
            "write one into the template (chat_template in the model's tokenizer_config.json)"
        ) from error
    return fixed
