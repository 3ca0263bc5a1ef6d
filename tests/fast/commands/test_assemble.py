"""What a stage computes without a model."""

import pytest

from satchel.backends.registry import BACKENDS
from satchel.commands.assemble import memory_bytes
from satchel.quantize.plan import QuantPlan
from satchel.skeleton.spec import ProgramSpec


@pytest.mark.parametrize(("backend", "number"), [("executorch", 4), ("litert", 4), ("coreml", 2)])
def test_the_memory_that_a_device_needs_counts_the_cache_as_the_program_has_it(backend: str, number: int) -> None:
    config = {
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "hidden_size": 64,
    }
    spec = ProgramSpec(config, QuantPlan({}, tied=True), 100, 64, 1, (2,))
    cache = 3 * 2 * (2 * 8) * 100 * number  # layers, keys and values, heads of 8 numbers, positions
    assert memory_bytes(spec, 1_000_000, BACKENDS[backend].cache_number_bytes) == 1_000_000 + cache + 64 * 2**20
