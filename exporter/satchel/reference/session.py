"""Generates text from a prompt: prefill, then one token after another until something ends it (docs/sessions.md)."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from satchel.errors import ContextLengthError, LogitsError, UsageError
from satchel.reference.engine import Engine
from satchel.reference.graphemes import WholeGraphemes
from satchel.reference.sampler import Sampler, SamplingOptions
from satchel.reference.stop import StopStrings, check_stop_strings
from satchel.reference.stream import TextStream
from satchel.reference.tokenizer import Tokenizer

DEFAULT_MAX_NEW_TOKENS = 256


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"  # the model ended its turn, or a stop string was complete
    LENGTH = "length"  # max_new_tokens
    CONTEXT_FULL = "context_full"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"  # by ChatSession.stop


class ContextPolicy(StrEnum):
    """What a session does when its conversation no longer fits."""

    ERROR = "error"
    DROP_OLDEST_TURNS = "drop_oldest_turns"


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(SamplingOptions):
    """max_new_tokens: at least 1. timeout: seconds, above 0. Raises UsageError outside the ranges."""

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    stop_strings: tuple[str, ...] = ()
    timeout: float | None = None
    context_policy: ContextPolicy = ContextPolicy.ERROR

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"timeout is {self.timeout} seconds; it must be above 0")
        check_stop_strings(self.stop_strings)


@dataclass(frozen=True)
class GenerationStats:
    """Counts and times of one generation. The token that ended the turn is not counted among the generated ones.

    cached_tokens: how many of the prompt's tokens the engine still held. time_to_first_token: seconds from the call to
    the first drawn token, None if it ended before. Speeds are tokens per second, of the tokens that were fed; the
    decode speed is None if nothing was decoded.
    """

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    time_to_first_token: float | None
    prefill_tokens_per_second: float
    decode_tokens_per_second: float | None


@dataclass(frozen=True)
class TextChunk:
    """A piece of the answer: new text, whole characters as a reader sees them, and the ids since the chunk before.

    Only the last chunk has a finish reason and statistics; its text may be empty.
    """

    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    stats: GenerationStats | None = None


class EngineMemory:
    """An engine together with the ids that its KV cache holds: feeding a prompt starts where it differs from them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._fed: list[int] = []

    def reusable(self, ids: Sequence[int]) -> int:
        """How many of the first ids need not be fed again. The last one always is: its logits are wanted."""
        count = 0
        for held, wanted in zip(self._fed, ids[:-1], strict=False):
            if held != wanted:
                break
            count += 1
        return count

    def forget(self) -> None:
        """Holds nothing from now on."""
        self._fed = []

    def forward(self, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Logits after `tokens` at `position`; what was held from there on is forgotten, all of it if this fails."""
        held, self._fed = self._fed[:position], []
        logits = self.engine.forward(np.array(tokens, dtype=np.int64), position)
        self._fed = [*held, *tokens]
        return logits


def generate(
    engine: Engine | EngineMemory,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    stop_ids: Sequence[int],
    options: GenerateOptions,
    clock: Callable[[], float] = time.perf_counter,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[TextChunk]:
    """Streams the model's continuation of a prompt, which starts at position 0 of the context.

    A stop id ends the answer and is not part of it. Raises UsageError for an empty prompt or a logit bias beyond the
    vocabulary and ContextLengthError for a prompt that does not fit, all before the engine is used.
    """
    memory = engine if isinstance(engine, EngineMemory) else EngineMemory(engine)
    context_length = memory.engine.context_length
    if not prompt_ids:
        raise UsageError("the prompt is empty: it needs at least one token")
    if len(prompt_ids) > context_length:
        raise ContextLengthError(
            f"the prompt has {len(prompt_ids)} tokens and the context holds {context_length}: "
            "shorten the prompt, or build with a larger --context"
        )
    sampler = Sampler(options, memory.engine.vocab_size, prompt_ids)
    return _generate(memory, tokenizer, prompt_ids, frozenset(stop_ids), options, sampler, clock, cancelled)


def _generate(
    memory: EngineMemory,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    stop_ids: frozenset[int],
    options: GenerateOptions,
    sampler: Sampler,
    clock: Callable[[], float],
    cancelled: Callable[[], bool],
) -> Iterator[TextChunk]:
    started = clock()

    def interruption() -> FinishReason | None:
        if cancelled():
            return FinishReason.CANCELLED
        if options.timeout is not None and clock() - started >= options.timeout:
            return FinishReason.TIMEOUT
        return None

    def sample(logits: NDArray[np.float32]) -> int:
        """Logits that nothing can be drawn from may come of nonsense in the KV cache: all of it is forgotten."""
        try:
            return sampler.sample(logits)
        except LogitsError:
            memory.forget()
            raise

    engine = memory.engine
    stream = TextStream(tokenizer)
    stop_strings = StopStrings(options.stop_strings)
    graphemes = WholeGraphemes(tokenizer.grapheme_breaks)
    cached = position = memory.reusable(prompt_ids)
    generated = 0
    first_token = None
    decode_seconds = 0.0  # without the time that the reader of the chunks takes
    unsent: list[int] = []

    reason = interruption()
    while reason is None and position < len(prompt_ids):
        chunk = prompt_ids[position : position + engine.prefill_chunk]
        logits = memory.forward(chunk, position)
        position += len(chunk)
        if position < len(prompt_ids):
            reason = interruption()
    prefilled = clock()
    prefill_seconds = prefilled - started
    shown = ""
    if reason is None:
        token = sample(logits)
        first_token = clock()
    while reason is None:
        if token in stop_ids:
            reason = FinishReason.STOP
            break
        generated += 1
        unsent.append(token)
        shown = graphemes.push(stop_strings.push(stream.push(token)))
        if stop_strings.found:
            reason = FinishReason.STOP
            break
        if shown:
            yield TextChunk(shown, tuple(unsent))
            unsent.clear()
            shown = ""
        if generated == options.max_new_tokens:
            reason = FinishReason.LENGTH
        elif position == engine.context_length:
            reason = FinishReason.CONTEXT_FULL
        else:
            reason = interruption()
        if reason is None:
            step_started = clock()
            token = sample(memory.forward([token], position))
            decode_seconds += clock() - step_started
            position += 1

    decoded = max(0, position - len(prompt_ids))
    stats = GenerationStats(
        prompt_tokens=len(prompt_ids),
        cached_tokens=cached,
        generated_tokens=generated,
        time_to_first_token=None if first_token is None else first_token - started,
        prefill_tokens_per_second=_rate(min(position, len(prompt_ids)) - cached, prefill_seconds),
        decode_tokens_per_second=_rate(decoded, decode_seconds) if decoded else None,
    )
    shown += graphemes.push(stop_strings.push(stream.finish()) + stop_strings.finish()) + graphemes.finish()
    yield TextChunk(shown, tuple(unsent), reason, stats)


def _rate(count: int, seconds: float) -> float:
    """Tokens per second; a clock too coarse to see the time passing counts as a nanosecond."""
    return count / max(seconds, 1e-9)
