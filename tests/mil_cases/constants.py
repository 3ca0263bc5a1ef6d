"""Cases of the operations that unpack constants."""

from typing import Any

import numpy as np
from torch import Tensor

from mil_cases.case import Case, floats, random, scalar, t, unit
from tiny_package import in_blob, pack_narrow


def _repeated(small: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    for axis, size in enumerate(shape):
        small = small.repeat(size // small.shape[axis], axis)
    return t(small.astype(np.float32))


CODES, UNSIGNED = random.integers(-8, 8, (4, 6)).astype(np.int8), random.integers(0, 16, (4, 6)).astype(np.uint8)
SCALES, OFFSETS = unit(4, 3), floats(4, 3)
TABLES, ENTRIES = floats(2, 1, 4, 1), random.integers(0, 4, (4, 6)).astype(np.uint8)
VECTORS, FACTOR = floats(1, 1, 4, 3), floats(1)
KEPT = random.integers(0, 2, (4, 6)).astype(np.uint8)
SPARSE = np.zeros((4, 6), np.float32)
SPARSE[KEPT == 1] = VALUES = floats(int(KEPT.sum()))


def constant(name: str, expected: Tensor, **attributes: Any) -> Case:
    return Case(name, attributes, expected, given=())


def spread(codes: np.ndarray, offset: np.ndarray | float = 0.0) -> Tensor:
    offsets = _repeated(offset, (4, 6)) if isinstance(offset, np.ndarray) else offset
    return _repeated(SCALES, (4, 6)) * (t(codes).float() - offsets)


CONSTEXPR = [
    constant("constexpr_blockwise_shift_scale", spread(CODES), data=in_blob(CODES, "int4"), scale=in_blob(SCALES)),
    constant("constexpr_blockwise_shift_scale", spread(CODES), data=in_blob(CODES), scale=SCALES),
    constant(
        "constexpr_blockwise_shift_scale",
        spread(UNSIGNED, OFFSETS),
        data=in_blob(UNSIGNED, "uint4"),
        scale=in_blob(SCALES),
        offset=in_blob(OFFSETS),
    ),
    constant(
        "constexpr_blockwise_shift_scale",
        spread(UNSIGNED, UNSIGNED[:, :3]),
        data=in_blob(UNSIGNED, "uint4"),
        scale=in_blob(SCALES),
        offset=in_blob(UNSIGNED[:, :3], "uint4"),
    ),
    constant(
        "constexpr_affine_dequantize",
        (t(UNSIGNED).float() - 3) * 0.5,
        quantized_data=in_blob(UNSIGNED),
        scale=scalar(0.5),
        zero_point=np.uint8(3),
        axis=np.int32(0),
    ),
    constant(
        "constexpr_affine_dequantize",
        (t(CODES).float() - t(CODES[0]).float()) * t(FACTOR),
        quantized_data=in_blob(CODES),
        scale=np.repeat(FACTOR, 6),
        zero_point=in_blob(CODES[0]),
        axis=np.int32(1),
    ),
    constant(
        "constexpr_cast",
        t(SCALES.astype(np.float16)).float(),
        source_val=in_blob(SCALES.astype(np.float16)),
        output_dtype="=fp32",
    ),
    constant(
        "constexpr_lut_to_dense",
        t(TABLES[np.arange(4)[:, None] // 2, 0, ENTRIES, 0]),
        indices=in_blob(ENTRIES, "uint2"),
        lut=in_blob(TABLES),
    ),
    constant(
        "constexpr_lut_to_dense",
        t(VECTORS[0, 0][ENTRIES]).permute(0, 2, 1).reshape(12, 6),
        indices=in_blob(ENTRIES, "uint2"),
        lut=in_blob(VECTORS),
        vector_axis=np.int32(0),
    ),
    constant(
        "constexpr_lut_to_dense",
        t(VECTORS[0, 0][ENTRIES]).reshape(4, 18),
        indices=in_blob(ENTRIES, "uint2"),
        lut=in_blob(VECTORS),
        vector_axis=np.int32(1),
    ),
    constant(
        "constexpr_lut_to_dense",
        t(VECTORS.reshape(-1)[:4][ENTRIES]),
        indices=in_blob(np.frombuffer(pack_narrow(ENTRIES, 2), np.uint8)),
        lut=in_blob(VECTORS.reshape(-1)[:4].copy()),
        shape=np.array([4, 6], np.uint32),
    ),
    constant("constexpr_sparse_to_dense", t(SPARSE), nonzero_data=in_blob(VALUES), mask=in_blob(KEPT, "uint1")),
    constant(
        "constexpr_sparse_to_dense",
        t(SPARSE),
        nonzero_data=in_blob(VALUES),
        mask=in_blob(np.frombuffer(pack_narrow(KEPT, 1), np.uint8)),
        shape=np.array([4, 6], np.uint32),
    ),
]
