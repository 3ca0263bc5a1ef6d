"""A conversation: turns in, prompts that share their beginning out, so that little is fed again (docs/sessions.md)."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from satchel.errors import ContextLengthError, UsageError
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.session import ContextPolicy, EngineMemory, FinishReason, GenerateOptions, TextChunk, generate
from satchel.reference.tokenizer import Tokenizer

_HISTORY_VERSION = 1
_ALWAYS_KEPT = {FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTEXT_FULL}


@dataclass(frozen=True)
class ChatHistory:
    """The completed turns of a conversation, user and assistant in turn. Raises UsageError for another order."""

    instructions: str | None = None
    turns: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        for index, turn in enumerate(self.turns):
            expected = ("user", "assistant")[index % 2]
            if turn.role != expected:
                raise UsageError(f"turn {index} is of the {turn.role}; user and assistant must alternate")
        if len(self.turns) % 2:
            raise UsageError("the last turn has no answer; user and assistant must alternate")

    def to_json(self) -> str:
        turns = [{"role": turn.role, "text": turn.content} for turn in self.turns]
        content = {"schema_version": _HISTORY_VERSION, "instructions": self.instructions, "turns": turns}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "ChatHistory":
        """Reads what `to_json` gave; unknown fields are left alone. Raises UsageError for anything else."""
        try:
            content = json.loads(text)
            version, instructions = content["schema_version"], content["instructions"]
            turns = [(turn["role"], turn["text"]) for turn in content["turns"]]
        except (ValueError, KeyError, TypeError):
            raise UsageError("this is no history: it must be the JSON that to_json gives") from None
        if version != _HISTORY_VERSION:
            raise UsageError(f"the history has schema version {version}; it must be {_HISTORY_VERSION}")
        texts = [*(part for turn in turns for part in turn), *([] if instructions is None else [instructions])]
        if not isinstance(content["turns"], list) or not all(isinstance(part, str) for part in texts):
            raise UsageError("this is no history: turns must be a list; role, text and instructions must be texts")
        return cls(instructions, tuple(Turn(role, content) for role, content in turns))


class ChatSession:
    """One conversation with a model. A turn that raised or whose reader left early leaves no trace."""

    def __init__(
        self,
        memory: EngineMemory,
        tokenizer: Tokenizer,
        program: PromptProgram,
        stop_ids: Sequence[int],
        history: ChatHistory | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._memory = memory
        self._tokenizer = tokenizer
        self._program = program
        self._stop_ids = stop_ids
        self._clock = clock
        self.history = history or ChatHistory()
        self._dropped = 0  # pairs of turns that the model is no longer shown
        self._stopping = False
        self._busy = False

    def stop(self) -> None:
        """Ends the answer that is being streamed after the step that runs, as CANCELLED."""
        self._stopping = True

    def stream_response(self, prompt: str, options: GenerateOptions) -> Iterator[TextChunk]:
        """Answers `prompt` as the user's next turn.

        Nothing runs before the first chunk is asked for. Raises UsageError then if the session is answering already or
        the template can't take these turns, and ContextLengthError if they don't fit.
        """
        if self._busy:
            raise UsageError("this session is answering already: one request at a time")
        self._busy = True
        try:
            yield from self._answer(Turn("user", prompt), options)
        finally:
            self._busy = False

    def _answer(self, user: Turn, options: GenerateOptions) -> Iterator[TextChunk]:
        self._stopping = False
        ids, dropped = self._fitting(user, options)
        chunks = generate(
            self._memory, self._tokenizer, ids, self._stop_ids, options, self._clock, lambda: self._stopping
        )
        self._dropped = dropped
        answer, generated = "", False
        for chunk in chunks:
            answer += chunk.text
            generated = generated or bool(chunk.ids)
            if chunk.finish_reason is not None and (generated or chunk.finish_reason in _ALWAYS_KEPT):
                turns = (*self.history.turns, user, Turn("assistant", answer))
                self.history = ChatHistory(self.history.instructions, turns)
            yield chunk

    def _fitting(self, user: Turn, options: GenerateOptions) -> tuple[list[int], int]:
        """The prompt's ids, and how many pairs of turns had to be left out of it."""
        context = self._memory.engine.context_length
        low = self._dropped
        ids = self._prompt(user, low)
        if options.context_policy == ContextPolicy.DROP_OLDEST_TURNS:
            limit = context - min(options.max_new_tokens, context // 4)
            if len(ids) > limit:
                high = len(self.history.turns) // 2
                while low < high:
                    middle = (low + high) // 2
                    if len(self._prompt(user, middle)) <= limit:
                        high = middle
                    else:
                        low = middle + 1
                ids = self._prompt(user, low)
        if len(ids) > context:
            raise ContextLengthError(
                f"the conversation has {len(ids)} tokens and the context holds {context}: "
                "shorten it, or build with a larger --context"
            )
        return ids, low

    def _prompt(self, user: Turn, dropped: int) -> list[int]:
        instructions = self.history.instructions
        system = [] if instructions is None else [Turn("system", instructions)]
        return self._program.encode(self._tokenizer, [*system, *self.history.turns[2 * dropped :], user])
