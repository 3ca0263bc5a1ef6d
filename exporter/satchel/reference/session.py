"""Generates text from a prompt: prefill, then one token after another until something ends it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from satchel.errors import ContextLengthError, UsageError
from satchel.reference.sampler import Sampler, check_sampling
from satchel.reference.stream import TextStream
from satchel.reference.tokenizer import Tokenizer
from satchel.runtimes.engine import Engine

DEFAULT_MAX_NEW_TOKENS = 256


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"  # the model ended its turn
    LENGTH = "length"  # max_new_tokens
    CONTEXT_FULL = "context_full"


@dataclass(frozen=True)
class GenerateOptions:
    """max_new_tokens: at least 1. temperature: 0 (greedy) to 100. Raises UsageError outside the ranges."""

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        check_sampling(self.temperature, self.seed)


@dataclass(frozen=True)
class GenerationStats:
    """Counts and times of one generation. The token that ended the turn is not counted among the generated ones.

    time_to_first_token: seconds from the call to the first drawn token. Speeds are tokens per second; the decode speed
    is None if nothing was decoded.
    """

    prompt_tokens: int
    generated_tokens: int
    time_to_first_token: float
    prefill_tokens_per_second: float
    decode_tokens_per_second: float | None


@dataclass(frozen=True)
class TextChunk:
    """A piece of the answer: new text, whole characters only, and the ids since the chunk before.

    Only the last chunk has a finish reason and statistics; its text may be empty.
    """

    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    stats: GenerationStats | None = None


def generate(
    engine: Engine,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    stop_ids: Sequence[int],
    options: GenerateOptions,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[TextChunk]:
    """Streams the model's continuation of a prompt, which starts at position 0 of the context.

    A stop id ends the answer and is not part of it. Raises UsageError for an empty prompt and ContextLengthError for
    one that does not fit, both before the engine is used.
    """
    if not prompt_ids:
        raise UsageError("the prompt is empty: it needs at least one token")
    if len(prompt_ids) > engine.context_length:
        raise ContextLengthError(
            f"the prompt has {len(prompt_ids)} tokens and the context holds {engine.context_length}: "
            "shorten the prompt, or build with a larger --context"
        )
    return _generate(engine, tokenizer, prompt_ids, frozenset(stop_ids), options, clock)


def _generate(
    engine: Engine,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    stop_ids: frozenset[int],
    options: GenerateOptions,
    clock: Callable[[], float],
) -> Iterator[TextChunk]:
    started = clock()
    sampler = Sampler(options.temperature, options.seed)
    stream = TextStream(tokenizer)
    logits = _prefill(engine, prompt_ids)
    prefilled = clock()
    token = sampler.sample(logits)
    first_token = clock()

    position = len(prompt_ids)
    generated = 0
    decode_seconds = 0.0  # without the time that the reader of the chunks takes
    unsent: list[int] = []
    while True:
        if token in stop_ids:
            reason = FinishReason.STOP
            break
        generated += 1
        unsent.append(token)
        text = stream.push(token)
        if text:
            yield TextChunk(text, tuple(unsent))
            unsent.clear()
        if generated == options.max_new_tokens:
            reason = FinishReason.LENGTH
            break
        if position == engine.context_length:
            reason = FinishReason.CONTEXT_FULL
            break
        step_started = clock()
        token = sampler.sample(engine.forward(np.array([token], dtype=np.int64), position))
        decode_seconds += clock() - step_started
        position += 1

    decoded = position - len(prompt_ids)
    stats = GenerationStats(
        prompt_tokens=len(prompt_ids),
        generated_tokens=generated,
        time_to_first_token=first_token - started,
        prefill_tokens_per_second=_rate(len(prompt_ids), prefilled - started),
        decode_tokens_per_second=_rate(decoded, decode_seconds) if decoded else None,
    )
    yield TextChunk(stream.finish(), tuple(unsent), reason, stats)


def _prefill(engine: Engine, prompt_ids: Sequence[int]) -> NDArray[np.float32]:
    """Feeds the prompt in chunks as large as the engine takes; the logits after the last one."""
    tokens = np.array(prompt_ids, dtype=np.int64)
    for start in range(0, len(tokens), engine.prefill_chunk):
        logits = engine.forward(tokens[start : start + engine.prefill_chunk], start)
    return logits


def _rate(count: int, seconds: float) -> float:
    """Tokens per second; a clock too coarse to see the time passing counts as a nanosecond."""
    return count / max(seconds, 1e-9)
