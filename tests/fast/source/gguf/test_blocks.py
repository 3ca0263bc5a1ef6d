"""The types of a GGUF file's tensors: values as llama.cpp's rules say, codes of the even 4-bit grids."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from satchel.quantize.plan import TensorPlan
from satchel.quantize.transcode import transcode
from satchel.source.gguf.checkpoint import GgufCheckpoint, open_gguf
from tiny_gguf import write_gguf
from tiny_model import random_weights

Blocks = Callable[..., NDArray[np.uint8]]
DOWN = "model.layers.0.mlp.down_proj.weight"
K = "model.layers.0.self_attn.k_proj.weight"
EVEN = [Type.Q4_0, Type.Q4_1, Type.Q4_K]


@pytest.fixture
def wide(tmp_path: Path, tiny_config: dict[str, Any]) -> Callable[..., GgufCheckpoint]:
    """A tiny Llama of width 256, since blocks of the K types hold 256 weights; wide(name, bytes, type)."""
    config = {**tiny_config, "hidden_size": 256, "head_dim": 64, "intermediate_size": 512}
    write = partial(write_gguf, tmp_path / "wide.gguf", config, random_weights(config))
    return lambda name, raw, kind: open_gguf(write(raw={name: (raw, kind)}))


def _half(low: int, high: int) -> float:
    return float(np.array([low | high << 8], "<u2").view("<f2")[0])


def _block(kind: Type, raw: list[int]) -> list[float]:
    """One block by the rules of ggml-quants.c (dequantize_row_*), spelled out in Python's own numbers."""
    d = _half(raw[0], raw[1])
    if kind in (Type.Q4_0, Type.Q4_1, Type.IQ4_NL):
        codes = raw[4 if kind == Type.Q4_1 else 2 :]
        q = [byte & 15 for byte in codes] + [byte >> 4 for byte in codes]
        if kind == Type.Q4_0:
            return [d * (one - 8) for one in q]
        if kind == Type.Q4_1:
            return [d * one + _half(raw[2], raw[3]) for one in q]
        table = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
        return [d * table[one] for one in q]
    if kind in (Type.Q5_0, Type.Q5_1):
        at = 2 if kind == Type.Q5_0 else 4
        fifth = int.from_bytes(bytes(raw[at : at + 4]), "little")
        codes = raw[at + 4 :]
        q = [byte & 15 for byte in codes] + [byte >> 4 for byte in codes]
        q = [one | (fifth >> i & 1) << 4 for i, one in enumerate(q)]
        return [d * (one - 16) if kind == Type.Q5_0 else d * one + _half(raw[2], raw[3]) for one in q]
    if kind == Type.Q8_0:
        return [d * (byte - 256 if byte > 127 else byte) for byte in raw[2:]]
    if kind == Type.MXFP4:
        table = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]
        step = 2.0 ** (raw[0] - 128)
        return [step * table[byte & 15] for byte in raw[1:]] + [step * table[byte >> 4] for byte in raw[1:]]
    if kind == Type.Q6_K:
        low, high, scales, d = raw[:128], raw[128:192], raw[192:208], _half(raw[208], raw[209])
        values = [0.0] * 256
        for half in (0, 1):
            for i in range(32):
                for part in range(4):
                    nibble = low[64 * half + 32 * (part % 2) + i] >> (4 * (part // 2)) & 15
                    q = nibble | (high[32 * half + i] >> (2 * part) & 3) << 4
                    scale = scales[8 * half + 2 * part + i // 16]
                    values[128 * half + 32 * part + i] = d * (scale - 256 if scale > 127 else scale) * (q - 32)
        return values
    dmin, packed = _half(raw[2], raw[3]), raw[4:16]  # Q4_K and Q5_K
    fifths, codes = (raw[16:48], raw[48:]) if kind == Type.Q5_K else ([0] * 32, raw[16:])
    values = []
    for part in range(8):
        if part < 4:
            scale, minimum = packed[part] & 63, packed[part + 4] & 63
        else:
            scale = (packed[part + 4] & 15) | (packed[part - 4] >> 6) << 4
            minimum = (packed[part + 4] >> 4) | (packed[part] >> 6) << 4
        for i in range(32):
            q = codes[32 * (part // 2) + i] >> (4 * (part % 2)) & 15
            values.append(d * scale * (q | (fifths[i] >> part & 1) << 4) - dmin * minimum)
    return values


@pytest.mark.parametrize(
    "kind", [*EVEN, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q5_K, Type.Q6_K, Type.IQ4_NL, Type.MXFP4]
)
def test_values_are_those_of_llama_cpps_rules(
    wide: Callable[..., GgufCheckpoint], random_blocks: Blocks, kind: Type
) -> None:
    raw = random_blocks(kind, (256, 512))
    values = wide(DOWN, raw, kind).read(DOWN)
    size = len(raw[0]) * (256 if kind.name.endswith("_K") else 32) // 512
    for row in (0, 97, 255):
        blocks = raw[row].reshape(-1, size).tolist()
        expected = [value for block in blocks for value in _block(kind, block)]
        np.testing.assert_allclose(values[row], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", EVEN)
@pytest.mark.parametrize("name", [DOWN, K])
def test_codes_are_the_values(
    wide: Callable[..., GgufCheckpoint], random_blocks: Blocks, name: str, kind: Type
) -> None:
    shape = {DOWN: (256, 512), K: (128, 256)}[name]
    checkpoint = wide(name, random_blocks(kind, shape), kind)
    source, values = checkpoint.codes(name), checkpoint.read(name)
    assert source is not None
    blocks = source.codes.reshape(*source.scale.shape, 32).astype(np.float64) - 8
    exact = (source.scale[..., None] * blocks + source.offset[..., None]).reshape(shape)
    # The offset is a float32: half a unit in the last place of |8 d sc| + |dmin m|, which is below 16.
    np.testing.assert_allclose(exact, values, rtol=0, atol=2e-6)


def test_a_superblock_keeps_its_codes_on_our_grid(wide: Callable[..., GgufCheckpoint], random_blocks: Blocks) -> None:
    """What remains is the rounding of the scale to bfloat16: 2**-8 of it, times at most 15 steps from the mean."""
    checkpoint = wide(DOWN, random_blocks(Type.Q4_K, (256, 512)), Type.Q4_K)
    source = checkpoint.codes(DOWN)
    assert source is not None
    grid = transcode(source, TensorPlan("int4", 32, offset=True))
    assert grid is not None
    turned = np.repeat(source.scale < 0, 32, axis=1)
    usable = np.repeat(source.scale != 0, 32, axis=1)
    expected = np.where(turned, 7 - source.codes.astype(int), source.codes.astype(int) - 8)
    np.testing.assert_array_equal(grid.codes[usable], expected[usable])
    assert grid.offset is not None
    ours = grid.scale[..., None] * grid.codes.reshape(256, -1, 32) + grid.offset[..., None]
    difference = np.abs(ours - checkpoint.read(DOWN).reshape(256, -1, 32))
    assert (difference <= 15 * 2**-8 * np.abs(source.scale)[..., None] + 4e-6).all()


@pytest.mark.parametrize("kind", [Type.IQ4_NL, Type.MXFP4, Type.Q5_K, Type.Q6_K])
def test_uneven_grids_have_no_codes(wide: Callable[..., GgufCheckpoint], random_blocks: Blocks, kind: Type) -> None:
    assert wide(DOWN, random_blocks(kind, (256, 512)), kind).codes(DOWN) is None
