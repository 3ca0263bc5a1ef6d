"""The 4-bit blocks of ggml whose grid is even: codes, scale and offset of every 32 weights, nothing rounded but a sum.

Q4_0, Q4_1 and Q4_K are `w = scale (q - 8) + offset`. IQ4_NL and MXFP4 have 4 bits too, but their 16 values do not lie
at equal distances, so no scale and offset give them back: they are dequantized.
"""

from collections.abc import Callable, Mapping

import numpy as np
from gguf.constants import GGMLQuantizationType
from numpy.typing import NDArray

GROUP = 32  # weights along the last axis that share a scale and an offset

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Unpack = Callable[[Bytes], tuple[Bytes, Floats, Floats]]


def _q4_0(blocks: Bytes) -> tuple[Bytes, Floats, Floats]:
    """ggml's block_q4_0, 18 bytes: float16 d, 16 bytes of codes. `w = d (q - 8)`."""
    scale = _float16_at(blocks, 0)
    return _nibbles(blocks[..., 2:]), scale, np.zeros_like(scale)


def _q4_1(blocks: Bytes) -> tuple[Bytes, Floats, Floats]:
    """ggml's block_q4_1, 20 bytes: float16 d, float16 m, 16 bytes of codes. `w = d q + m = d (q - 8) + (m + 8 d)`."""
    scale = _float16_at(blocks, 0)
    return _nibbles(blocks[..., 4:]), scale, _float16_at(blocks, 2) + 8 * scale


def _q4_k(blocks: Bytes) -> tuple[Bytes, Floats, Floats]:
    """ggml's block_q4_K, 144 bytes for 256 weights: float16 d, float16 dmin, 12 bytes with eight scales and eight
    minimums of 6 bits, 128 bytes of codes. In each of its eight parts of 32: `w = (d sc) q - dmin m`.

    d sc has 17 significant bits and is exact in float32; so is dmin m, and 8 d sc - dmin m is rounded to float32 once.
    """
    rows = len(blocks)
    packed = blocks[..., 4:16]
    first, second, third = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = np.concatenate([first & 63, (third & 15) | (first >> 6 << 4)], axis=-1)
    minimums = np.concatenate([second & 63, (third >> 4) | (second >> 6 << 4)], axis=-1)
    scale = _float16_at(blocks, 0)[..., None] * scales.astype(np.float32)
    offset = 8 * scale - _float16_at(blocks, 2)[..., None] * minimums.astype(np.float32)
    codes = _nibbles(blocks[..., 16:].reshape(rows, -1, 32))
    return codes, scale.reshape(rows, -1), offset.reshape(rows, -1)


def _float16_at(blocks: Bytes, position: int) -> Floats:
    raw = np.ascontiguousarray(blocks[..., position : position + 2])
    return raw.view("<f2")[..., 0].astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """[rows, runs, n] bytes -> [rows, 2 n * runs] codes: a run's low nibbles come first, then its high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)


# Each takes [rows, blocks, bytes of a block] and gives codes [rows, weights], scale and offset [rows, weights / 32].
UNPACK: Mapping[GGMLQuantizationType, Unpack] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q4_K: _q4_k,
}
