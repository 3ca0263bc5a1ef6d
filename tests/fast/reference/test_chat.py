"""What a session feeds: the same logits as if every prompt were fed from the start, and no more than is new."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from cases.prompt import prompt_programs
from cases.tokenizer import TOKENIZERS
from satchel.errors import ContextLengthError, UsageError
from satchel.reference.chat import ChatHistory, ChatSession
from satchel.reference.prompt import Turn
from satchel.reference.session import ContextPolicy, EngineMemory, GenerateOptions, generate

TOKENIZER = TOKENIZERS["chat"]
PROGRAM = prompt_programs()["chatml"]
END = next(token.id for token in TOKENIZER.added_tokens if token.content == "<|im_end|>")


class Hashing:
    """Logits that depend on every id fed so far, as a model's do."""

    def __init__(self, context_length: int = 400, prefill_chunk: int = 16) -> None:
        self.vocab_size = TOKENIZER.vocab_size
        self.context_length = context_length
        self.prefill_chunk = prefill_chunk
        self.fed: list[int] = []
        self.count = 0

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        assert position <= len(self.fed)
        self.fed = [*self.fed[:position], *tokens.tolist()]
        self.count += len(tokens)
        random_row = np.random.default_rng(hash(tuple(self.fed)) & 0xFFFFFFFF)
        return random_row.standard_normal(self.vocab_size).astype(np.float32)

    def close(self) -> None: ...


def answer_from_the_start(ids: Sequence[int], options: GenerateOptions) -> str:
    return "".join(chunk.text for chunk in generate(Hashing(), TOKENIZER, ids, [END], options))


def test_answers_are_those_of_prompts_fed_from_the_start() -> None:
    source = random.Random(1)
    engine = Hashing()
    memory = EngineMemory(engine)
    options = GenerateOptions(max_new_tokens=6)
    sessions = [ChatSession(memory, TOKENIZER, PROGRAM, [END]) for _ in range(2)]
    for _ in range(12):
        session = source.choice(sessions)
        prompt = "".join(source.choices("abc \u4f60", k=4))
        ids = PROGRAM.encode(TOKENIZER, [*session.history.turns, Turn("user", prompt)])
        if len(ids) > 380:
            break
        chunks = session.stream_response(prompt, options)
        if source.random() < 0.3:
            next(chunks)
            chunks.close()  # type: ignore[attr-defined]
            continue
        assert "".join(chunk.text for chunk in chunks) == answer_from_the_start(ids, options)


def test_a_turn_feeds_only_what_is_new() -> None:
    engine = Hashing()
    session = ChatSession(EngineMemory(engine), TOKENIZER, PROGRAM, [END])
    options = GenerateOptions(max_new_tokens=4)
    list(session.stream_response("Hello world " * 8, options))
    before = engine.count
    (*_, last) = session.stream_response("and", options)
    assert last.stats is not None
    assert last.stats.cached_tokens > 60
    assert engine.count - before == last.stats.prompt_tokens - last.stats.cached_tokens + 3


def test_a_step_that_fails_forgets_everything() -> None:
    class Failing(Hashing):
        broken = False

        def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
            if self.broken:
                self.fed = [0] * 1000  # as bad as it gets: another content than before
                raise OSError("broken")
            return super().forward(tokens, position)

    engine = Failing()
    memory = EngineMemory(engine)
    memory.forward([1, 2, 3], 0)
    assert memory.reusable([1, 2, 3, 4]) == 3
    engine.broken = True
    with pytest.raises(OSError, match="broken"):
        memory.forward([4], 3)
    assert memory.reusable([1, 2, 3, 4]) == 0


def test_dropping_the_oldest_turns_keeps_instructions_and_history() -> None:
    engine = Hashing(context_length=160)
    history = ChatHistory("Be brief.", tuple(Turn(("user", "assistant")[n % 2], f"turn {n}") for n in range(40)))
    session = ChatSession(EngineMemory(engine), TOKENIZER, PROGRAM, [END], history)
    with pytest.raises(ContextLengthError):
        next(session.stream_response("x", GenerateOptions()))
    options = GenerateOptions(max_new_tokens=5, context_policy=ContextPolicy.DROP_OLDEST_TURNS)
    list(session.stream_response("x", options))
    fed = TOKENIZER.decode(engine.fed)
    assert "Be brief." in fed
    assert "turn 39" in fed
    assert "turn 0" not in fed
    assert len(session.history.turns) == 42


def test_a_busy_session_refuses_and_goes_on() -> None:
    session = ChatSession(EngineMemory(Hashing()), TOKENIZER, PROGRAM, [END])
    running = session.stream_response("a", GenerateOptions(max_new_tokens=5))
    next(running)
    with pytest.raises(UsageError, match="answering already"):
        next(session.stream_response("b", GenerateOptions()))
    list(running)
    assert session.history.turns[0].content == "a"
