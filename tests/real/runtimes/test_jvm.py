"""The Kotlin engine on a desktop JVM computes what ExecuTorch's own Python runtime computes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.bundle.folder import Bundle
from satchel.cache import Cache
from satchel.errors import ToolFailedError
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.runtimes.executorch import ExecuTorchEngine
from satchel.runtimes.jvm import JvmEngine, open_jvm_engine
from satchel.tools import Tools
from tiny_model import TINY_CONFIG

CONTEXT, CHUNK = 96, 16
MakeBundle = Callable[..., Bundle]


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> Bundle:
    """A float Llama of two layers with random weights: no int8 activations, so last bits stay last bits."""
    from satchel.lower.decoder import parameter_shapes
    from satchel.lower.executorch import lower
    from satchel.skeleton.spec import ProgramSpec

    config = {**TINY_CONFIG, "tie_word_embeddings": False}
    plan = QuantPlan({name: TensorPlan("float") for name in parameter_shapes(config)}, tied=False)
    program, _ = lower(ProgramSpec(config, plan, CONTEXT, CHUNK, None, (2,)), None)
    sizes = {"vocab_size": 300, "context_length": CONTEXT, "prefill_chunk": CHUNK}
    return make_bundle(tmp_path_factory.mktemp("jvm") / "b", recipe="float", program=bytes(program), **sizes)


@pytest.fixture(scope="module")
def engine(small_bundle: Bundle, sdk_cache: Cache) -> Iterator[JvmEngine]:
    with open_jvm_engine(small_bundle.path, sdk_cache, Tools()) as engine:
        yield engine


def ids(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 300, count)


def test_it_says_what_the_program_says(engine: JvmEngine) -> None:
    assert (engine.vocab_size, engine.context_length, engine.prefill_chunk) == (300, CONTEXT, CHUNK)


def test_the_same_logits_for_chunks_single_tokens_and_after_a_rewind(engine: JvmEngine, small_bundle: Bundle) -> None:
    python = ExecuTorchEngine(small_bundle.file("program"), threads=1)
    tokens, position = ids(80, seed=1), 0
    for size in (CHUNK, 7, 1, 1, CHUNK, 3):
        chunk = tokens[position : position + size]
        np.testing.assert_allclose(engine.forward(chunk, position), python.forward(chunk, position), atol=1e-4, rtol=0)
        position += size
    again = ids(5, seed=2)
    np.testing.assert_allclose(engine.forward(again, 10), python.forward(again, 10), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("tokens", "position"),
    [([300], 0), ([-1], 0), ([1] * (CHUNK + 1), 0), ([1, 1], CONTEXT - 1), ([1], -1)],
    ids=["id past the vocabulary", "negative id", "chunk too long", "past the context", "negative position"],
)
def test_what_would_abort_the_process_is_refused(engine: JvmEngine, tokens: list[int], position: int) -> None:
    with pytest.raises(ToolFailedError):
        engine.forward(np.array(tokens, np.int64), position)
    assert np.isfinite(engine.forward(np.array([1], np.int64), 0)).all()


def test_a_damaged_program_is_refused_before_the_runtime_sees_it(
    tmp_path: Path, make_bundle: MakeBundle, sdk_cache: Cache
) -> None:
    bundle = make_bundle(tmp_path / "b")
    bundle.file("program").write_bytes(b"X" * bundle.file("program").stat().st_size)
    with pytest.raises(ToolFailedError, match=r"model\.pte"):
        open_jvm_engine(bundle.path, sdk_cache, Tools())
