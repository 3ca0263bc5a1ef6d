"""Streaming and generation on an engine that says what it is told to."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.compile.tokenizer import compile_tokenizer
from satchel.errors import ContextLengthError, LogitsError, UsageError
from satchel.reference.session import FinishReason, GenerateOptions, TextChunk, generate
from satchel.reference.stream import TextStream
from satchel.reference.tokenizer import Tokenizer
from tiny_model import tiny_tokenizer_json

START, END, STOP = 256, 257, 258


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_bytes(compile_tokenizer(tiny_tokenizer_json()))


class Parrot:
    """An engine that answers with the given ids whatever it is fed, and writes down how it was called."""

    vocab_size = 259

    prompt_length = 0

    def __init__(self, answer: Sequence[int], context_length: int = 64, prefill_chunk: int = 4) -> None:
        self.context_length = context_length
        self.prefill_chunk = prefill_chunk
        self.calls: list[tuple[list[int], int]] = []
        self._answer = list(answer)

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        assert 1 <= len(tokens) <= self.prefill_chunk
        assert position + len(tokens) <= self.context_length
        self.calls.append((tokens.tolist(), position))
        logits = np.zeros(self.vocab_size, dtype=np.float32)
        drawn = max(0, position + len(tokens) - self.prompt_length)
        logits[self._answer[min(drawn, len(self._answer) - 1)]] = 1.0
        return logits

    def close(self) -> None: ...


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, special=False)


def run(engine: Parrot, tokenizer: Tokenizer, prompt: Sequence[int], options: GenerateOptions) -> list[TextChunk]:
    engine.prompt_length = len(prompt)
    return list(generate(engine, tokenizer, prompt, [STOP], options))


def test_stops_at_the_end_of_the_turn(tokenizer: Tokenizer) -> None:
    answer = ids_of(tokenizer, "Hi \u4f60")
    engine = Parrot([*answer, STOP])
    chunks = run(engine, tokenizer, [1, 2, 3, 4, 5], GenerateOptions())
    assert [chunk.text for chunk in chunks] == ["H", "i", " ", "\u4f60"]
    assert [token for chunk in chunks for token in chunk.ids] == answer
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * 3
    last = chunks[-1]
    assert last.finish_reason == FinishReason.STOP
    assert last.stats is not None
    assert (last.stats.prompt_tokens, last.stats.generated_tokens) == (5, len(answer))


def test_prefills_in_chunks_then_feeds_each_token_at_its_position(tokenizer: Tokenizer) -> None:
    engine = Parrot([65, 66, STOP], prefill_chunk=4)
    run(engine, tokenizer, list(range(10, 20)), GenerateOptions())
    assert engine.calls == [
        ([10, 11, 12, 13], 0),
        ([14, 15, 16, 17], 4),
        ([18, 19], 8),
        ([65], 10),
        ([66], 11),
    ]


def test_length_and_an_unfinished_character(tokenizer: Tokenizer) -> None:
    """The answer is cut inside a character: what was held back comes last, as a replacement."""
    euro = ids_of(tokenizer, "\u20ac")
    chunks = run(Parrot([65, *euro]), tokenizer, [1, 2], GenerateOptions(max_new_tokens=3))
    assert chunks[-1].finish_reason == FinishReason.LENGTH
    assert "".join(chunk.text for chunk in chunks) == tokenizer.decode([65, *euro[:2]])
    assert [token for chunk in chunks for token in chunk.ids] == [65, *euro[:2]]


def test_context_full(tokenizer: Tokenizer) -> None:
    """A prompt that fills the context still gets one token; the engine is never fed beyond the end."""
    for length, expected in ((8, 1), (6, 3)):
        chunks = run(Parrot([65], context_length=8), tokenizer, [1, 2] * (length // 2), GenerateOptions())
        assert chunks[-1].finish_reason == FinishReason.CONTEXT_FULL
        assert sum(len(chunk.ids) for chunk in chunks) == expected


def test_stop_at_once(tokenizer: Tokenizer) -> None:
    chunks = run(Parrot([STOP]), tokenizer, [1, 2], GenerateOptions())
    assert len(chunks) == 1
    assert (chunks[0].text, chunks[0].ids, chunks[0].finish_reason) == ("", (), FinishReason.STOP)
    assert chunks[0].stats is not None
    assert chunks[0].stats.decode_tokens_per_second is None


def test_statistics_come_from_the_clock(tokenizer: Tokenizer) -> None:
    """Start 0, prefilled 2, first token 3; each of two decode steps takes 0.5; the reader's time does not count."""
    times = iter([0.0, 2.0, 3.0, 10.0, 10.5, 20.0, 20.5])
    engine = Parrot([65, 66, STOP])
    engine.prompt_length = 8
    stream = generate(engine, tokenizer, [1] * 8, [STOP], GenerateOptions(), lambda: next(times))
    stats = list(stream)[-1].stats
    assert stats is not None
    assert stats.time_to_first_token == 3.0
    assert stats.prefill_tokens_per_second == 4.0
    assert stats.decode_tokens_per_second == 2.0


def test_a_prompt_that_does_not_fit_is_refused_before_the_engine_is_used(tokenizer: Tokenizer) -> None:
    engine = Parrot([65], context_length=8)
    with pytest.raises(ContextLengthError, match=r"9 tokens.*holds 8"):
        generate(engine, tokenizer, [1] * 9, [STOP], GenerateOptions())
    with pytest.raises(UsageError, match="empty"):
        generate(engine, tokenizer, [], [STOP], GenerateOptions())
    assert engine.calls == []


def test_bad_options_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        GenerateOptions(max_new_tokens=0)
    with pytest.raises(UsageError, match=r"0 \(greedy\) to 100"):
        GenerateOptions(temperature=-1.0)


def test_nan_from_the_engine_is_an_error(tokenizer: Tokenizer) -> None:
    class Broken(Parrot):
        def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
            return np.full(self.vocab_size, np.nan, dtype=np.float32)

    with pytest.raises(LogitsError):
        run(Broken([65]), tokenizer, [1], GenerateOptions())


def test_the_same_seed_gives_the_same_text(tokenizer: Tokenizer) -> None:
    def text(seed: int) -> str:
        options = GenerateOptions(max_new_tokens=20, temperature=50.0, seed=seed)
        return "".join(chunk.text for chunk in run(Parrot([65]), tokenizer, [1, 2], options))

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_deltas_together_are_the_decoded_text(tokenizer: Tokenizer) -> None:
    """Also for broken UTF-8; and no delta ends inside a character that is still to come."""
    source = random.Random(7)
    for _ in range(2000):
        ids = [source.randrange(259) for _ in range(source.randrange(12))]
        stream = TextStream(tokenizer)
        deltas = [stream.push(token) for token in ids]
        assert "".join(deltas) + stream.finish() == tokenizer.decode(ids, skip_special=True)


def test_a_surrogate_half_is_not_waited_for(tokenizer: Tokenizer) -> None:
    """CPython's own incremental decoder waits for a third byte; no other platform should have to."""
    by_byte = {tokenizer.token_bytes(token): token for token in range(256)}
    stream = TextStream(tokenizer)
    deltas = [stream.push(by_byte[bytes([byte])]) for byte in (0xED, 0xA0, 0x80, 0xED, 0x9F, 0xBF)]
    assert deltas == ["", "\ufffd\ufffd", "\ufffd", "", "", "\ud7ff"]


def test_a_character_is_held_back_until_it_is_whole(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    emoji = ids_of(tokenizer, "\U0001f600")
    assert [stream.push(token) for token in [*emoji, START, *emoji[:2], 65]] == [
        "", "", "", "\U0001f600", "", "", "", "\ufffd" + tokenizer.decode([65]),
    ]  # fmt: skip
