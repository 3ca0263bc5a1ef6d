"""Cases of the operations that unpack constants."""

from typing import Any

import numpy as np
from torch import Tensor

from mil_cases.case import Case, floats, random, t, unit
from tiny_package import in_blob


def _repeated(small: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    for axis, size in enumerate(shape):
        small = small.repeat(size // small.shape[axis], axis)
    return t(small.astype(np.float32))


CODES, UNSIGNED = random.integers(-8, 8, (4, 6)).astype(np.int8), random.integers(0, 16, (4, 6)).astype(np.uint8)
SCALES, OFFSETS = unit(4, 3), floats(4, 3)


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
]
