"""The prompt program: what a model's chat template does to plain turns, as data that a device can run.

docs/prompt-format.md is the specification. A program gives segments: ids of the template's special tokens, and the text
between them, each encoded as one run in which nothing is a special token. So a user's text can't end its own turn.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from satchel.errors import BundleError, UsageError
from satchel.reference.tokenizer import Tokenizer

SCHEMA_VERSION = 1
ROLES = ("system", "user", "assistant")
RAW_ONLY = "this model has no chat template: it takes raw prompts only (--raw)"

# What trimming takes off both ends of a turn's content: the characters that Python's str.strip() takes.
TRIMMED = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

Segment = int | str
Segments = tuple[Segment, ...]


@dataclass(frozen=True)
class Turn:
    """One message: role is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True)
class RoleForm:
    """How turns of one role are written: what stands before and after the content, and whether it is trimmed."""

    before: Segments
    after: Segments
    trim: bool


@dataclass(frozen=True)
class PromptProgram:
    """A compiled chat template.

    kind "raw": no template; only raw prompts, every other field is empty. `prefix` opens every prompt,
    `default_system` follows it when the first turn is not of the system. `system`: "any" (a system turn may stand
    anywhere), "first" (only as the first turn) or "folded" (first, and written inside the user turn behind it, between
    that turn's `before` and its content). `order`: "any", or "alternating": user and assistant by turns after
    the system turn, from a user turn to a user turn if a generation prompt follows.
    """

    kind: Literal["chat", "raw"]
    roles: Mapping[str, RoleForm] = field(default_factory=dict)
    prefix: Segments = ()
    default_system: Segments = ()
    generation_prompt: Segments = ()
    system: Literal["any", "first", "folded"] = "any"
    order: Literal["any", "alternating"] = "any"
    special_tokens: Mapping[int, str] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()

    def render(self, turns: Sequence[Turn], generation_prompt: bool = True) -> Segments:
        """The prompt of a conversation. Raises UsageError, saying why, for turns that the program can't render."""
        objection = self.objection(turns, generation_prompt)
        if objection:
            raise UsageError(objection)
        segments = [*self.prefix]
        if turns[0].role != "system":
            segments += self.default_system
        folded: Segments = ()
        for turn in turns:
            form = self.roles[turn.role]
            content = turn.content.strip(TRIMMED) if form.trim else turn.content
            if turn.role == "system" and self.system == "folded":
                folded = (*form.before, content, *form.after)
            else:
                segments += [*form.before, *folded, content, *form.after]
                folded = ()
        if generation_prompt:
            segments += self.generation_prompt
        return _joined(segments)

    def objection(self, turns: Sequence[Turn], generation_prompt: bool) -> str | None:
        """Why these turns can't be rendered, or None if they can."""
        if self.kind == "raw":
            return RAW_ONLY
        if not turns:
            return "a conversation needs at least one turn"
        for turn in turns:
            if turn.role not in self.roles:
                return f"this model's chat template has no {turn.role!r} turns; it has {', '.join(self.roles)}"
        if self.system != "any" and any(turn.role == "system" for turn in turns[1:]):
            return "this model's chat template takes a system turn only as the first one"
        if self.system == "folded" and turns[0].role == "system" and [turn.role for turn in turns[1:2]] != ["user"]:
            return "this model's chat template takes a system turn only with a user turn behind it"
        if self.order == "alternating":
            spoken = [turn.role for turn in turns if turn.role != "system"]
            expected = ["user" if index % 2 == 0 else "assistant" for index in range(len(spoken))]
            if not spoken or spoken != expected or (generation_prompt and spoken[-1] != "user"):
                return f"this model's chat template needs user and assistant turns to alternate, not {spoken}"
        return None

    def encode(self, tokenizer: Tokenizer, turns: Sequence[Turn], generation_prompt: bool = True) -> list[int]:
        """The prompt's ids: each run of text between two special tokens is encoded by itself, as a user's text."""
        ids: list[int] = []
        for index, segment in enumerate(self.render(turns, generation_prompt)):
            ids += [segment] if isinstance(segment, int) else tokenizer.encode(segment, False, at_start=index == 0)
        return ids

    def text(self, turns: Sequence[Turn], generation_prompt: bool = True) -> str:
        """The prompt as text, the way the chat template writes it."""
        segments = self.render(turns, generation_prompt)
        return "".join(self.special_tokens[part] if isinstance(part, int) else part for part in segments)

    # --- prompt.json --------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The bytes of prompt.json as text: the same program gives the same text."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "prefix": self.prefix,
            "default_system": self.default_system,
            "generation_prompt": self.generation_prompt,
            "roles": {
                role: {"before": form.before, "after": form.after, "trim": form.trim}
                for role, form in self.roles.items()
            },
            "system": self.system,
            "order": self.order,
            "special_tokens": {str(token): text for token, text in self.special_tokens.items()},
            "unsupported": self.unsupported,
        }
        return json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "PromptProgram":
        """Reads prompt.json. Raises BundleError if it is damaged or of another schema version."""
        try:
            content: dict[str, Any] = json.loads(text)
            version = content["schema_version"]
            if version != SCHEMA_VERSION:
                raise BundleError(f"prompt.json has schema version {version}, this Satchel reads {SCHEMA_VERSION}")
            if content["kind"] == "raw":
                return cls("raw")
            return cls(
                kind="chat",
                roles={
                    role: RoleForm(
                        tuple(content["roles"][role]["before"]),
                        tuple(content["roles"][role]["after"]),
                        bool(content["roles"][role]["trim"]),
                    )
                    for role in ROLES
                    if role in content["roles"]
                },
                prefix=tuple(content["prefix"]),
                default_system=tuple(content["default_system"]),
                generation_prompt=tuple(content["generation_prompt"]),
                system=content["system"],
                order=content["order"],
                special_tokens={int(token): name for token, name in content["special_tokens"].items()},
                unsupported=tuple(content["unsupported"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"prompt.json is damaged ({error!r}); build the bundle again") from error


def _joined(segments: Iterable[Segment]) -> Segments:
    """Neighbouring texts become one run; empty ones vanish."""
    joined: list[Segment] = []
    for segment in segments:
        if isinstance(segment, str) and joined and isinstance(joined[-1], str):
            joined[-1] += segment
        elif segment != "":
            joined.append(segment)
    return tuple(joined)
