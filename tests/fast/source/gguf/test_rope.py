"""Scaled positions: Llama 3's four numbers are found again from what llama.cpp keeps of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gguf_families import llama3_frequencies
from satchel.errors import BadWeightsError, UnsupportedModelError
from satchel.source.gguf.checkpoint import open_gguf
from satchel.source.gguf.metadata import Metadata
from satchel.source.gguf.rope import rope_scaling

MakeGguf = Callable[..., Path]


def _settings(factor: float, base: float, **changes: Any) -> dict[str, Any]:
    return {
        "rope_type": "llama3",
        "rope_theta": base,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        **changes,
    }


def _scaling(factors: NDArray[np.float32], base: float = 500_000.0, **fields: Any) -> dict[str, Any]:
    named = {f"llama.rope.scaling.{key}": value for key, value in fields.items()}
    return rope_scaling(Metadata("m.gguf", "llama", named), factors, base, 2 * len(factors))


@pytest.mark.parametrize(("factor", "head_dim"), [(8.0, 128), (32.0, 64), (32.0, 128)])
def test_llama_3_is_found_again(factor: float, head_dim: int) -> None:
    settings = _settings(factor, 500_000.0)
    expected = {key: value for key, value in settings.items() if key != "rope_theta"}
    assert _scaling(llama3_frequencies(settings, head_dim)) == {"rope_scaling": expected}


def test_the_tensor_becomes_the_config(make_gguf: MakeGguf) -> None:
    factors = llama3_frequencies(_settings(8.0, 10_000.0), 16)
    checkpoint = open_gguf(make_gguf(extra={"rope_freqs.weight": factors}))
    assert checkpoint.config["rope_parameters"]["factor"] == 8.0
    assert "rope_freqs.weight" not in checkpoint.tensors
    plain = open_gguf(make_gguf(extra={"rope_freqs.weight": np.ones(8, np.float32)})).config
    assert plain["rope_parameters"]["rope_type"] == "default"


@pytest.mark.parametrize(
    "factors",
    [
        llama3_frequencies(_settings(8.0, 500_000.0, original_max_position_embeddings=4096), 128),
        llama3_frequencies(_settings(8.0, 500_000.0, high_freq_factor=8.0), 128),
        np.full(64, 4, np.float32),
        np.full(64, 0.5, np.float32),
        np.array([1, np.inf], np.float32),
    ],
)
def test_other_factors_are_refused(factors: NDArray[np.float32]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"rope_freqs\.weight, and not in the way of Llama 3"):
        _scaling(factors)


def test_two_ways_at_once_are_refused() -> None:
    factors = llama3_frequencies(_settings(8.0, 500_000.0), 128)
    with pytest.raises(UnsupportedModelError, match="in two ways at once"):
        _scaling(factors, type="linear", factor=4.0)


def test_linear_scaling(make_gguf: MakeGguf) -> None:
    fields = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    found = open_gguf(make_gguf(fields=fields)).config["rope_parameters"]
    assert (found["rope_type"], found["factor"]) == ("linear", 4.0)


def test_an_absurd_tensor_is_not_read(make_gguf: MakeGguf) -> None:
    with pytest.raises(BadWeightsError, match=r"rope_freqs\.weight has the shape"):
        open_gguf(make_gguf(extra={"rope_freqs.weight": np.ones((200, 200), np.float32)}))
