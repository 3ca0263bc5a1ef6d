"""The Kotlin LiteRT engine on a desktop JVM: its logits are those of LiteRT's own Python API, to the bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.bundle.folder import Bundle
from satchel.cache import Cache
from satchel.errors import ToolFailedError
from satchel.runtimes.jvm import JvmEngine, open_jvm_engine
from satchel.runtimes.litert import LiteRtEngine
from satchel.tools import Tools
from tiny_specs import TINY

CONTEXT, CHUNK, VOCABULARY = 96, 16, TINY["vocab_size"]
MakeBundle = Callable[..., Bundle]


@pytest.fixture(scope="module")
def engine(litert_bundle: Bundle, sdk_cache: Cache) -> Iterator[JvmEngine]:
    with open_jvm_engine(litert_bundle.path, sdk_cache, Tools()) as engine:
        yield engine


def ids(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, count)


def test_it_says_what_the_program_says(engine: JvmEngine) -> None:
    assert (engine.vocab_size, engine.context_length, engine.prefill_chunk) == (VOCABULARY, CONTEXT, CHUNK)


def test_logits_are_pythons_for_chunks_single_tokens_a_rewind_and_at_the_end_of_the_context(
    engine: JvmEngine, litert_bundle: Bundle
) -> None:
    python = LiteRtEngine(litert_bundle.file("program"), threads=1)
    tokens, position = ids(CONTEXT, seed=1), 0
    for size in (CHUNK, 7, 1, 1, CHUNK, 3, CHUNK, CHUNK, CHUNK, 4):
        chunk = tokens[position : position + size]
        expected = python.forward(chunk, position)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_array_equal(engine.forward(chunk, position), expected)
        position += size
    assert position == CONTEXT
    again = ids(5, seed=2)
    np.testing.assert_array_equal(engine.forward(again, 10), python.forward(again, 10))


@pytest.mark.parametrize(
    ("tokens", "position"),
    [([VOCABULARY], 0), ([-1], 0), ([1] * (CHUNK + 1), 0), ([1, 1], CONTEXT - 1), ([1], -1)],
    ids=["id past the vocabulary", "negative id", "chunk too long", "past the context", "negative position"],
)
def test_what_is_out_of_range_is_refused(engine: JvmEngine, tokens: list[int], position: int) -> None:
    with pytest.raises(ToolFailedError):
        engine.forward(np.array(tokens, np.int64), position)
    assert np.isfinite(engine.forward(np.array([1], np.int64), 0)).all()


@pytest.mark.parametrize("program", [b"\x10\0\0\0TFL3 no flatbuffer at all", b"\xff" * 5000, b""])
def test_what_is_no_program_is_said(tmp_path: Path, make_bundle: MakeBundle, sdk_cache: Cache, program: bytes) -> None:
    bundle = make_bundle(tmp_path / "b", backend="litert", program=program)
    with pytest.raises(ToolFailedError, match="no LiteRT program"):
        open_jvm_engine(bundle.path, sdk_cache, Tools())
