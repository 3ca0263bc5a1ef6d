"""What a program's file holds of a weight, whatever the format: the same parts, and the same numbers in them.

So two backends' programs are compared part by part. Only how a part becomes bytes (`packing`) is the format's own.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import InternalError
from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.plan import TensorPlan


def carried_offset(tensor: QuantizedTensor) -> QuantizedTensor:
    """The offsets as programs carry them: int8 per output row, float32 scales. [out, in / group].

    Derived from the float32 offsets by round-to-nearest-even of `offset / (absmax / 127)` in float32.
    """
    if tensor.offset is None:
        raise InternalError("carried_offset of a tensor without offset")
    largest = np.abs(tensor.offset).max(axis=1)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    codes = np.clip(np.rint(tensor.offset / scale[:, None]), -127, 127).astype(np.int8)
    return QuantizedTensor(plan=TensorPlan("int8"), codes=codes, scale=scale)


def code_weight(tensor: QuantizedTensor) -> NDArray[np.float32]:
    """`scale * code` as float32 [out, in], without the offset."""
    assert tensor.codes is not None and tensor.scale is not None
    codes = tensor.codes.astype(np.float32)
    if tensor.plan.scheme == "int8":
        return codes * tensor.scale[:, None]
    return codes * np.repeat(tensor.scale, tensor.plan.group, axis=1)


def carried_weight(tensor: QuantizedTensor) -> NDArray[np.float32]:
    """The float32 weight that a program stands for: `scale * code` plus the offset as it is carried."""
    if tensor.values is not None:
        return tensor.values
    weight = code_weight(tensor)
    if tensor.offset is not None:
        weight += np.repeat(code_weight(carried_offset(tensor)), tensor.plan.group, axis=1)
    return weight


OFFSET_PARTS = ("offset_codes", "offset_scale")


def parts(tensor: QuantizedTensor, int4: str, group_scale: str) -> Iterator[tuple[str, tuple[str, ...], NDArray[Any]]]:
    """(part, names of possible packings, array) of everything a file holds of this tensor.

    int4, group_scale: the packings that the format has for the codes and scales of int4 groups.
    """
    if tensor.values is not None:
        yield "values", ("float32", "float32_plus_one"), tensor.values
        return
    assert tensor.codes is not None and tensor.scale is not None
    grouped = tensor.plan.scheme == "int4"
    yield "codes", (int4 if grouped else "int8",), tensor.codes
    yield "scale", (group_scale if grouped else "float32",), tensor.scale
    if tensor.offset is not None:
        carried = carried_offset(tensor)
        assert carried.codes is not None and carried.scale is not None
        yield OFFSET_PARTS[0], ("int8",), carried.codes
        yield OFFSET_PARTS[1], ("float32",), carried.scale


def part_bytes(plan: TensorPlan, shape: tuple[int, ...]) -> int:
    """Bytes that all parts of one tensor take in a file."""
    count = math.prod(shape)
    if plan.scheme == "float":
        return 4 * count
    rows = shape[0]
    if plan.scheme == "int8":
        return count + 4 * rows
    groups = count // plan.group
    return count // 2 + 2 * groups + (groups + 4 * rows if plan.offset else 0)
