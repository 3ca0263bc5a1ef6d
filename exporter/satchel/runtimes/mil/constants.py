"""Compressed constants: what the constexpr operations make of codes, scales and tables. Opsets CoreML6 to CoreML8."""

import math

import numpy as np

from satchel.formats.mlpackage_blobs import unpack
from satchel.runtimes.mil.values import Array, Function, Inputs


def _blockwise_shift_scale(inputs: Inputs) -> Array:
    """scale * (data - offset), each scale for a block; the blocks' sizes follow from the shapes."""
    data, scale, offset = inputs["data"], inputs["scale"], inputs.get("offset")
    shape, split, spread = data.shape, [], []
    for size, blocks in zip(shape, scale.shape, strict=True):
        if size % blocks:
            raise ValueError(f"{size} values in {blocks} blocks")
        split += [blocks, size // blocks]
        spread += [blocks, 1]
    values: Array = data.astype(np.float32).reshape(split)
    if offset is not None:
        values -= offset.reshape(spread)
    values *= scale.reshape(spread)
    return values.reshape(shape)


def _affine_dequantize(inputs: Inputs) -> Array:
    """scale * (quantized_data - zero_point), both for the whole tensor or for each index of `axis`."""
    data = inputs["quantized_data"]
    shape = [1] * data.ndim
    shape[inputs.integer("axis", 0)] = -1
    scale, zero = (np.reshape(inputs[name], shape).astype(np.float32) for name in ("scale", "zero_point"))
    return np.asarray((data.astype(np.float32) - zero) * scale)


def _lut_to_dense(inputs: Inputs) -> Array:
    """CoreML6: one table [entries], indices packed into bytes. CoreML8: tables [*blocks, entries, vector]."""
    indices, table = inputs["indices"], inputs["lut"]
    if "shape" in inputs:
        shape = tuple(inputs.integers("shape"))
        bits = int(math.log2(len(table)))
        return np.asarray(table[_unpacked(indices, bits, math.prod(shape))].reshape(shape))
    *blocks, entries, vector = table.shape
    for axis, (size, count) in enumerate(zip(indices.shape, blocks, strict=True)):
        table = np.repeat(table, size // count, axis) if count > 1 else table
    flat = np.broadcast_to(table, (*indices.shape, entries, vector)) if any(n > 1 for n in blocks) else None
    if flat is None:
        values = table.reshape(entries, vector)[indices]
    else:
        values = np.take_along_axis(flat, indices.astype(np.int64)[..., None, None], -2)[..., 0, :]
    if vector == 1:
        return np.asarray(values[..., 0])
    axis = inputs.integer("vector_axis", 0) % indices.ndim
    shape = tuple(size * vector if at == axis else size for at, size in enumerate(indices.shape))
    return np.asarray(np.moveaxis(values, -1, axis + 1).reshape(shape))


def _sparse_to_dense(inputs: Inputs) -> Array:
    """Values where the mask has a one, zeros elsewhere. CoreML6 packs the mask's bits into bytes."""
    values, mask = inputs["nonzero_data"], inputs["mask"]
    if "shape" in inputs:
        shape = tuple(inputs.integers("shape"))
        mask = _unpacked(mask, 1, math.prod(shape)).reshape(shape)
    dense = np.zeros(mask.shape, values.dtype)
    dense[mask != 0] = values
    return dense


def _unpacked(packed: Array, bits: int, count: int) -> Array:
    if bits == 8:
        return packed[:count]
    return unpack(packed.astype(np.uint8), f"uint{bits}", (count,))


CONSTANTS: dict[str, Function] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": lambda inputs: inputs["source_val"],
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_sparse_to_dense": _sparse_to_dense,
}
