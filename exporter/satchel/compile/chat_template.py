"""Renders a Jinja chat template the way transformers does, and names what it does beyond plain turns."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import meta, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from satchel.errors import PromptTemplateError
from satchel.reference.prompt import ROLES, Turn

# Two moments that differ in every field of a date: a template whose plain turns differ between them writes the date.
_MOMENTS = (datetime(2001, 2, 3, 4, 5, 6), datetime(2032, 11, 25, 17, 38, 49))

_PLAIN_VARIABLES = {"messages", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token"}
_PLAIN_FIELDS = {"role", "content"}


# String methods that look for a text in a content, and where.
_METHODS = {
    "startswith": "start",
    "removeprefix": "start",
    "endswith": "end",
    "removesuffix": "end",
    **dict.fromkeys(("split", "rsplit", "replace", "partition", "rpartition", "find", "index", "count"), "inside"),
}


@dataclass(frozen=True)
class Sought:
    """Texts that a template looks for at the start, at the end or anywhere in a content, each sorted."""

    start: tuple[str, ...]
    end: tuple[str, ...]
    inside: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(sorted({*self.start, *self.end, *self.inside}))


NOTHING_SOUGHT = Sought((), (), ())


class _Generation(Extension):
    """`{% generation %}` marks what a model is trained on; it changes nothing in the text."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A parsed chat template. Raises PromptTemplateError if it is no valid Jinja."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], clock: bool = True) -> None:
        """special_tokens: the variables that the tokenizer gives, such as bos_token; empty ones are left out.

        clock: whether the template can ask for the date, with strftime_now.
        """
        self._environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self._environment.filters["tojson"] = _tojson
        self._environment.globals["raise_exception"] = _raise_exception
        self._source = source
        self._clock = clock
        self._special_tokens = {name: token for name, token in special_tokens.items() if token}
        try:
            self._tree = self._environment.parse(source)
            self._template = self._environment.from_string(source)
        except TemplateError as error:
            raise PromptTemplateError(f"the chat template is no valid Jinja: {error}") from error

    def render(self, turns: Sequence[Turn], generation_prompt: bool, moment: int = 0) -> str:
        """The prompt as text. Raises jinja2's TemplateError where the template refuses the conversation."""
        now: dict[str, Callable[[str], str]] = {"strftime_now": _MOMENTS[moment].strftime} if self._clock else {}
        try:
            return self._template.render(
                messages=[{"role": turn.role, "content": turn.content} for turn in turns],
                tools=None,
                documents=None,
                add_generation_prompt=generation_prompt,
                **now,
                **self._special_tokens,
            )
        except TemplateError:
            raise
        except Exception as error:  # a template is a program of someone else's: it can fail in any way
            raise TemplateError(f"{type(error).__name__}: {error}") from error

    def without_clock(self) -> "ChatTemplate":
        """The same template where nobody tells the date."""
        return ChatTemplate(self._source, self._special_tokens, clock=False)

    def sought(self) -> "Sought":
        """The texts that the template looks for in contents."""
        found: dict[str, set[str]] = {"start": set(), "end": set(), "inside": set()}
        for call in self._tree.find_all(nodes.Call):
            method = call.node.attr if isinstance(call.node, nodes.Getattr) else ""
            if method in _METHODS and call.args and isinstance(call.args[0], nodes.Const):
                found[_METHODS[method]].add(call.args[0].value)
        for comparison in self._tree.find_all(nodes.Compare):
            if isinstance(comparison.expr, nodes.Const) and any(part.op in ("in", "notin") for part in comparison.ops):
                found["inside"].add(comparison.expr.value)
        for filtered in self._tree.find_all(nodes.Filter):
            if filtered.name == "replace" and filtered.args and isinstance(filtered.args[0], nodes.Const):
                found["inside"].add(filtered.args[0].value)
        texts = {place: {text for text in of if isinstance(text, str) and text.strip()} for place, of in found.items()}
        return Sought(*(tuple(sorted(texts[place])) for place in ("start", "end", "inside")))

    def constructs(self) -> tuple[str, ...]:
        """What the template handles beyond role and content of plain turns, sorted: variables, fields and roles."""
        tree = self._tree
        found = meta.find_undeclared_variables(tree) - _PLAIN_VARIABLES - set(self._environment.globals)
        found -= _own_variables(tree)
        reads: list[nodes.Getitem | nodes.Getattr] = [*tree.find_all(nodes.Getitem), *tree.find_all(nodes.Getattr)]
        for node in reads:
            name = _field_of_message(node)
            if name is not None and name not in _PLAIN_FIELDS:
                found.add(f"message.{name}")
        for comparison in tree.find_all(nodes.Compare):
            operands = [comparison.expr, *(operand.expr for operand in comparison.ops)]
            if any(_reads_role(operand) for operand in operands):
                found |= {f"role {text}" for operand in operands for text in _strings(operand) if text not in ROLES}
        return tuple(sorted(found))


def _own_variables(tree: nodes.Template) -> set[str]:
    """The variables that the template sets before it reads them; one that it reads first is given to it."""
    first: dict[str, str] = {}
    for name in _names(tree):
        first.setdefault(name.name, name.ctx)
    return {name for name, context in first.items() if context == "store"}


def _names(node: nodes.Node) -> Iterator[nodes.Name]:
    """All names in the order in which the template comes to them."""
    children = list(node.iter_child_nodes())
    if isinstance(node, nodes.Assign):
        children.reverse()  # the value is read before its name is set
    for child in children:
        if isinstance(child, nodes.Name):
            yield child
        yield from _names(child)


def _field_of_message(node: nodes.Getitem | nodes.Getattr) -> str | None:
    """The field read from a message: `message.name`, `messages[0]["name"]`; None for anything else."""
    base = node.node
    of_list = isinstance(base, nodes.Getitem) and isinstance(base.node, nodes.Name) and base.node.name == "messages"
    if not of_list and not (isinstance(base, nodes.Name) and base.name in ("message", "msg", "m")):
        return None
    if isinstance(node, nodes.Getattr):
        return node.attr
    key = node.arg.value if isinstance(node.arg, nodes.Const) else None
    return key if isinstance(key, str) else None


def _reads_role(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getattr):
        return bool(node.attr == "role")
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "role"
    return isinstance(node, nodes.Name) and node.name == "role"


def _strings(node: nodes.Node) -> list[str]:
    constants = [node] if isinstance(node, nodes.Const) else node.find_all(nodes.Const)
    return [constant.value for constant in constants if isinstance(constant.value, str) and constant.value != "role"]


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """transformers' filter: unlike Jinja's own it escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
