"""The prompt program: what a model's chat template does to plain turns, as data that a device can run.

docs/prompt-format.md is the specification. A program gives segments: ids of the template's special tokens, and the text
between them, each encoded as one run in which nothing is a special token. So a user's text can't end its own turn.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

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
System = Literal["any", "first", "folded", "folded_last"]
FoldedTrim = Literal["content", "all"]
Order = Literal["any", "alternating"]
Last = Literal["any", "user"]


@dataclass(frozen=True)
class Turn:
    """One message: role is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True)
class KeptAfter:
    """Of a content that holds `text` only what follows its last occurrence is written, `trim` taken off its start."""

    text: str
    trim: str

    def of(self, content: str) -> str:
        _, found, kept = content.rpartition(self.text)
        return kept.lstrip(self.trim) if found else content


@dataclass(frozen=True)
class Refused:
    """Contents that the template takes for something else, by how they start and end."""

    start: str
    end: str

    def matches(self, content: str) -> bool:
        return content.startswith(self.start) and content.endswith(self.end)


@dataclass(frozen=True)
class RoleForm:
    """How turns of one role are written: what stands before and after the content, and what is done to it.

    kept_after, then trim, change the content. omit_empty: a turn of empty content is left out of the conversation.
    refused: such contents are no turns of this role.
    """

    before: Segments
    after: Segments
    trim: bool
    kept_after: KeptAfter | None = None
    omit_empty: bool = False
    refused: tuple[Refused, ...] = ()

    def cut(self, content: str) -> str:
        """The content without what the template drops of it, blanks aside."""
        return content if self.kept_after is None else self.kept_after.of(content)


@dataclass(frozen=True)
class PromptProgram:
    """A compiled chat template.

    kind "raw": no template; only raw prompts, every other field is empty. `prefix` opens every prompt,
    `default_system` follows it when the first turn is not of the system, `end` closes those that no generation prompt
    closes. `system`: "any" (a system turn may stand anywhere), "first" (only as the first turn), "folded" (first, and
    written inside the user turn behind it, between that turn's `before` and its content) or "folded_last" (inside the
    last turn of all). `folded_trim`: a user form that trims does so with its own content, or with all that is inside
    that turn. `order`: "any", or "alternating": user and assistant by turns after the system turn, from a user turn to
    a user turn if a generation prompt follows. `last`: "any", or "user": every conversation ends with a user turn.
    """

    kind: Literal["chat", "raw"]
    roles: Mapping[str, RoleForm] = field(default_factory=dict)
    prefix: Segments = ()
    default_system: Segments = ()
    generation_prompt: Segments = ()
    end: Segments = ()
    system: System = "any"
    folded_trim: FoldedTrim = "content"
    order: Order = "any"
    last: Last = "any"
    special_tokens: Mapping[int, str] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()

    @property
    def is_folded(self) -> bool:
        """Whether a system turn is written inside a user turn."""
        return self.system in ("folded", "folded_last")

    def render(self, turns: Sequence[Turn], generation_prompt: bool = True) -> Segments:
        """The prompt of a conversation. Raises UsageError, saying why, for turns that the program can't render."""
        objection = self.objection(turns, generation_prompt)
        if objection:
            raise UsageError(objection)
        turns = [turn for turn in turns if turn.content or not self.roles[turn.role].omit_empty]
        segments = [*self.prefix]
        if not turns or turns[0].role != "system":
            segments += self.default_system
        folded: Segments = ()
        for index, turn in enumerate(turns):
            form = self.roles[turn.role]
            content = form.cut(turn.content)
            if turn.role == "system" and self.is_folded:
                folded = (*form.before, content.strip(TRIMMED) if form.trim else content, *form.after)
                continue
            inside: Segments = (content.strip(TRIMMED) if form.trim else content,)
            if folded and (self.system == "folded" or index == len(turns) - 1):
                trims_all = form.trim and self.folded_trim == "all"
                inside = _trimmed((*folded, content)) if trims_all else (*folded, *inside)
                folded = ()
            segments += [*form.before, *inside, *form.after]
        segments += self.generation_prompt if generation_prompt else self.end
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
            for refused in self.roles[turn.role].refused:
                if refused.matches(turn.content):
                    return (
                        f"this model's chat template takes no {turn.role} turn from {refused.start!r} to "
                        f"{refused.end!r}: put something before it"
                    )
        if self.system != "any" and any(turn.role == "system" for turn in turns[1:]):
            return "this model's chat template takes a system turn only as the first one"
        if self.is_folded and [turn.role for turn in turns[:2]] in (["system"], ["system", "assistant"]):
            return "this model's chat template takes a system turn only with a user turn behind it"
        if self.order == "alternating":
            spoken = [turn.role for turn in turns if turn.role != "system"]
            expected = ["user" if index % 2 == 0 else "assistant" for index in range(len(spoken))]
            if not spoken or spoken != expected or (generation_prompt and spoken[-1] != "user"):
                return f"this model's chat template needs user and assistant turns to alternate, not {spoken}"
        if self.last == "user" and turns[-1].role != "user":
            return "this model's chat template is taken only for conversations that end with a user turn"
        return None

    def encode(self, tokenizer: Tokenizer, turns: Sequence[Turn], generation_prompt: bool = True) -> list[int]:
        """The prompt's ids: each run of text between two special tokens is encoded by itself, as a user's text.

        Some special tokens take the blanks beside them; those are not encoded.
        """
        segments = self.render(turns, generation_prompt)
        ids: list[int] = []
        for index, segment in enumerate(segments):
            if isinstance(segment, int):
                ids.append(segment)
            else:
                before, after = segments[index - 1 : index], segments[index + 1 : index + 2]
                text = tokenizer.without_taken_blanks(segment, before, after)
                ids += tokenizer.encode(text, False, at_start=index == 0)
        return ids

    def text(self, turns: Sequence[Turn], generation_prompt: bool = True) -> str:
        """The prompt as text, the way the chat template writes it."""
        segments = self.render(turns, generation_prompt)
        return "".join(self.special_tokens[part] if isinstance(part, int) else part for part in segments)

    # --- prompt.json --------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The bytes of prompt.json as text: the same program gives the same text."""
        content: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "prefix": self.prefix,
            "default_system": self.default_system,
            "generation_prompt": self.generation_prompt,
            "roles": {role: _role_to_json(form) for role, form in self.roles.items()},
            "system": self.system,
            "order": self.order,
            "special_tokens": {str(token): text for token, text in self.special_tokens.items()},
            "unsupported": self.unsupported,
        }
        if self.end:
            content["end"] = self.end
        if self.folded_trim != "content":
            content["folded_trim"] = self.folded_trim
        if self.last != "any":
            content["last"] = self.last
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
                roles={role: _role_from_json(content["roles"][role]) for role in ROLES if role in content["roles"]},
                prefix=tuple(content["prefix"]),
                default_system=tuple(content["default_system"]),
                generation_prompt=tuple(content["generation_prompt"]),
                end=tuple(content.get("end", ())),
                system=_one_of(content["system"], System),
                folded_trim=_one_of(content.get("folded_trim", "content"), FoldedTrim),
                order=_one_of(content["order"], Order),
                last=_one_of(content.get("last", "any"), Last),
                special_tokens={int(token): name for token, name in content["special_tokens"].items()},
                unsupported=tuple(content["unsupported"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"prompt.json is damaged ({error!r}); build the bundle again") from error


def _role_to_json(form: RoleForm) -> dict[str, Any]:
    """Fields that say nothing are left out."""
    content: dict[str, Any] = {"before": form.before, "after": form.after, "trim": form.trim}
    if form.kept_after is not None:
        content["kept_after"] = asdict(form.kept_after)
    if form.omit_empty:
        content["omit_empty"] = True
    if form.refused:
        content["refused"] = [asdict(refused) for refused in form.refused]
    return content


def _role_from_json(content: Mapping[str, Any]) -> RoleForm:
    kept_after = content.get("kept_after")
    return RoleForm(
        tuple(content["before"]),
        tuple(content["after"]),
        bool(content["trim"]),
        None if kept_after is None else KeptAfter(kept_after["text"], kept_after["trim"]),
        bool(content.get("omit_empty", False)),
        tuple(Refused(refused["start"], refused["end"]) for refused in content.get("refused", ())),
    )


def _one_of(value: Any, choices: Any) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{value!r} is none of {get_args(choices)}")
    return value


def _trimmed(segments: Segments) -> Segments:
    """Blanks taken off both ends of what stands inside a turn."""
    inside = list(_joined(segments))
    for place, strip in ((0, str.lstrip), (-1, str.rstrip)):
        if inside and isinstance(inside[place], str):
            inside[place] = strip(str(inside[place]), TRIMMED)
    return tuple(inside)


def _joined(segments: Iterable[Segment]) -> Segments:
    """Neighbouring texts become one run; empty ones vanish."""
    joined: list[Segment] = []
    for segment in segments:
        if isinstance(segment, str) and joined and isinstance(joined[-1], str):
            joined[-1] += segment
        elif segment != "":
            joined.append(segment)
    return tuple(joined)
