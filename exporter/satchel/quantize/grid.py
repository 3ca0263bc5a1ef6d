"""How codes are chosen for float weights, row by row, on the grids of TensorPlan. numpy, vectorised, bounded memory.

int4 picks, per group, the best of a few candidate scales by squared error ("MSE clip"): the widest candidate represents
the largest weight exactly, the narrower ones clip it and are finer everywhere else. Scales are bfloat16, and the codes
are rounded against the rounded scale.
"""

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from satchel.quantize.plan import TensorPlan

Floats = NDArray[np.float32]

# Symmetric: absmax / scale. 7 represents both ends; 7.5 and 8 trade half a step at the +8 side; beyond 8 clips.
_SYMMETRIC_REACH = (7.0, 7.5, 8.0, 8.8, 9.8)
# With offset: the part of (max - min) that the 15 steps span.
_SPAN_PARTS = (1.0, 0.93, 0.86)
_SMALLEST_NORMAL = np.float32(2.0**-126)  # of bfloat16, whose exponent range is float32's
_CHUNK_VALUES = 1 << 20  # weights are quantized in runs of rows of about this many values


@dataclass(frozen=True)
class GridCodes:
    """Codes, scale and offset as QuantizedTensor defines them for int4 and int8."""

    codes: NDArray[np.int8]
    scale: Floats
    offset: Floats | None


def quantize_weight(weight: Floats, plan: TensorPlan) -> GridCodes:
    """Codes for a float weight [out, in] under an int4 or int8 plan."""
    outputs, inputs = weight.shape
    groups = inputs // plan.group if plan.scheme == "int4" else 1
    codes = np.empty(weight.shape, dtype=np.int8)
    scale = np.empty((outputs, groups), dtype=np.float32)
    offset = np.zeros((outputs, groups), dtype=np.float32)
    on_blocks = _rounding(plan)
    step = max(1, _CHUNK_VALUES // inputs)
    for first in range(0, outputs, step):
        part = slice(first, first + step)
        blocks = weight[part].reshape(-1, groups, inputs // groups)
        chunk, scale[part], offset[part] = on_blocks(blocks)
        codes[part] = chunk.reshape(-1, inputs)
    if plan.scheme == "int8":
        return GridCodes(codes, scale[:, 0], None)
    return GridCodes(codes, scale, offset if plan.offset else None)


_OnBlocks = Callable[[Floats], tuple[Floats, Floats, Floats]]
"""blocks [rows, groups, width] -> codes of the same shape, scale and offset [rows, groups]."""


def _rounding(plan: TensorPlan) -> _OnBlocks:
    if plan.scheme == "int8":
        return _int8
    return _int4_with_offset if plan.offset else _int4_symmetric


def _int8(blocks: Floats) -> tuple[Floats, Floats, Floats]:
    """absmax / 127, rounded to nearest. A row whose scale would be zero or subnormal gets codes 0, scale 1."""
    scale = np.abs(blocks).max(axis=-1) / np.float32(127)
    scale = np.where(scale < _SMALLEST_NORMAL, np.float32(1), scale)
    codes = np.clip(np.rint(blocks / scale[..., None]), -127, 127)
    return codes, scale, np.zeros_like(scale)


def _int4_symmetric(blocks: Floats) -> tuple[Floats, Floats, Floats]:
    absmax = np.abs(blocks).max(axis=-1)
    best = _Best(blocks)
    for reach in _SYMMETRIC_REACH:
        scale = usable_scale(absmax / np.float32(reach))
        codes = np.clip(np.rint(blocks / scale[..., None]), -8, 7)
        best.offer(codes, scale, np.zeros_like(scale))
    return best.codes, best.scale, best.offset


def _int4_with_offset(blocks: Floats) -> tuple[Floats, Floats, Floats]:
    """16 steps centred on the block's range; the offset is then the mean of what the codes leave over."""
    low, high = blocks.min(axis=-1), blocks.max(axis=-1)
    middle = low / 2 + high / 2
    span = high - low
    flat = (span / np.float32(15) < _SMALLEST_NORMAL)[..., None]
    best = _Best(blocks)
    for part in _SPAN_PARTS:
        scale = usable_scale(span * np.float32(part / 15))
        # The codes -8..7 are centred on -1/2.
        codes = np.clip(np.rint((blocks - middle[..., None]) / scale[..., None] - np.float32(0.5)), -8, 7)
        codes[np.broadcast_to(flat, codes.shape)] = 0
        offset = (blocks - scale[..., None] * codes).mean(axis=-1, dtype=np.float64).astype(np.float32)
        best.offer(codes, scale, offset)
    return best.codes, best.scale, best.offset


class _Best:
    """Keeps, per block, the candidate with the smallest squared error; the earlier one when they are equal."""

    def __init__(self, blocks: Floats) -> None:
        self._blocks = blocks
        # NaN stands for "none yet": the first candidate is kept even where its squared error overflows.
        self._error = np.full(blocks.shape[:-1], np.nan, dtype=np.float32)
        self.codes = np.empty_like(blocks)
        self.scale = np.empty(blocks.shape[:-1], dtype=np.float32)
        self.offset = np.empty(blocks.shape[:-1], dtype=np.float32)

    def offer(self, codes: Floats, scale: Floats, offset: Floats) -> None:
        residual = self._blocks - scale[..., None] * codes
        residual -= offset[..., None]
        error = np.einsum("...i,...i->...", residual, residual)
        better = (error < self._error) | np.isnan(self._error)
        self._error[better] = error[better]
        self.codes[better] = codes[better]
        self.scale[better] = scale[better]
        self.offset[better] = offset[better]


def round_to_bfloat16(values: Floats) -> Floats:
    """Each value rounded to the nearest bfloat16 (ties to even), as float32."""
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def is_usable(scale: Floats) -> NDArray[np.bool_]:
    """Where a rounded scale is positive, normal and finite, as the runtimes demand."""
    return (scale >= _SMALLEST_NORMAL) & np.isfinite(scale)


def usable_scale(scale: Floats) -> Floats:
    """Scales rounded to bfloat16; 1 where the runtimes would refuse the rounded scale (all weights almost equal)."""
    rounded = round_to_bfloat16(scale)
    return np.where(is_usable(rounded), rounded, np.float32(1))
