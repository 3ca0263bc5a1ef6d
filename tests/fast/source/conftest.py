"""Tiny GGUF files, written with gguf's own writer."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from tiny_gguf import interleave_halves, write_gguf

MakeGguf = Callable[..., Path]
# Where a block of each type (ggml's block_q4_0 and so on) has a float16.
_HALVES = {
    Type.Q4_0: (0,),
    Type.Q4_1: (0, 2),
    Type.Q5_0: (0,),
    Type.Q5_1: (0, 2),
    Type.Q8_0: (0,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
    Type.IQ4_NL: (0,),
    Type.MXFP4: (),
}


def _separate_halves(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """The inverse of `interleave_halves`."""
    order = interleave_halves(np.arange(len(rows)), heads)
    out = np.empty_like(rows)
    out[order] = rows
    return out


@pytest.fixture
def undo() -> Callable[..., NDArray[Any]]:
    """undo(rows, heads): llama.cpp's row order back to Hugging Face's, by an index table."""
    return _separate_halves


@pytest.fixture
def random_blocks() -> Callable[..., NDArray[np.uint8]]:
    """random_blocks(type, shape): see `_random_blocks`."""
    return _random_blocks


def _random_blocks(kind: Type, shape: tuple[int, int], seed: int = 3) -> NDArray[np.uint8]:
    """Random codes with sensible float16 scales, as bytes [out, bytes per row]."""
    random = np.random.default_rng(seed)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (shape[0], shape[1] // block, block_bytes), dtype=np.uint8)
    for position in _HALVES[kind]:
        halves = random.uniform(-0.02, 0.02, raw.shape[:2]).astype("<f2")
        raw[..., position : position + 2] = halves[..., None].view(np.uint8)
    if kind == Type.MXFP4:
        raw[..., 0] = random.integers(115, 122, raw.shape[:2])  # powers of two
    return raw.reshape(shape[0], -1)


@pytest.fixture
def make_gguf(tmp_path: Path, tiny_config: dict[str, Any], tiny_arrays: dict[str, NDArray[np.float32]]) -> MakeGguf:
    """make_gguf(raw={name: (bytes, type)}, fields={...}, ...): the tiny Llama as GGUF; see `write_gguf`."""
    return partial(write_gguf, tmp_path / "Tiny_Model.gguf", tiny_config, tiny_arrays)
