"""Programs that several tests of runtimes use."""

from collections.abc import Callable
from typing import Any

import pytest

from satchel.bundle.folder import Bundle
from satchel.quantize.plan import TensorPlan
from tiny_specs import FAMILIES, TINY, spec

MakeBundle = Callable[..., Bundle]
LITERT_CONFIG: dict[str, Any] = {**TINY, **FAMILIES["gemma3"]}


@pytest.fixture(scope="session")
def litert_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> Bundle:
    """A LiteRT program with int4 weights with offsets, tables in int8 and sliding windows: every kernel of a real one.
    Context 96, chunks of 16."""
    from satchel.lower.decoder import parameter_shapes
    from satchel.lower.litert import lower
    from satchel.lower.placeholder import TiedPlaceholders

    tiny = spec(LITERT_CONFIG, TensorPlan("int4", 32, True), context_length=96, prefill_chunk=16)
    program = lower(tiny, TiedPlaceholders(tiny.plan, parameter_shapes(LITERT_CONFIG), {}))
    sizes = {"vocab_size": LITERT_CONFIG["vocab_size"], "context_length": 96, "prefill_chunk": 16}
    return make_bundle(tmp_path_factory.mktemp("litert") / "b", backend="litert", program=bytes(program), **sizes)
