"""The LiteRT program file (.tflite): where its weights lie, how they are filled in and read back.

Layout (TFLite schema 3, `schema.fbs`): one flatbuffer; every weight is a buffer that all signatures share. 4-bit
weights are INT4 with a blockwise scale tensor (float16, values exactly bfloat16, which is what XNNPACK rounds them to);
8-bit ones are INT8 with one float32 scale per row, kept with each signature's tensor, so there are several copies.
Offsets are the float32 weight of a second linear over block sums.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.formats import packing
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.skeleton import Skeleton, Slot

PROGRAM_FILE = "model.tflite"


def parts(tensor: QuantizedTensor) -> Iterator[tuple[str, tuple[str, ...], NDArray[Any]]]:
    """(part, possible packings, array) of everything the file holds of this tensor."""
    if tensor.values is not None:
        yield "values", ("float32", "float32_plus_one"), tensor.values
        return
    assert tensor.codes is not None
    assert tensor.scale is not None
    grouped = tensor.plan.scheme == "int4"
    yield "codes", ("int4_signed" if grouped else "int8",), tensor.codes
    yield "scale", ("float16" if grouped else "float32",), tensor.scale
    if tensor.offset is not None:
        yield "offset", ("float32",), tensor.offset


def carried_weight(tensor: QuantizedTensor) -> NDArray[np.float32]:
    """The float32 weight that the file stands for: `scale * code + offset`."""
    if tensor.values is not None:
        return tensor.values
    assert tensor.codes is not None
    assert tensor.scale is not None
    codes = tensor.codes.astype(np.float32)
    if tensor.plan.scheme == "int8":
        return codes * tensor.scale[:, None]
    weight = codes * np.repeat(tensor.scale, tensor.plan.group, axis=1)
    return weight if tensor.offset is None else weight + np.repeat(tensor.offset, tensor.plan.group, axis=1)


def part_bytes(plan: TensorPlan, shape: tuple[int, ...]) -> int:
    """Bytes of all parts of one tensor; the scales of 8-bit rows are counted once."""
    count = math.prod(shape)
    if plan.scheme == "float":
        return 4 * count
    if plan.scheme == "int8":
        return count + 4 * shape[0]
    groups = count // plan.group
    return count // 2 + 2 * groups + (4 * groups if plan.offset else 0)


def predict_bytes(plan: QuantPlan, shapes: Mapping[str, tuple[int, ...]], layers: int) -> int:
    """Size of the .tflite from the plan alone. A tied table is stored once. Graphs and names of both signatures were
    measured: about 50 KB per layer."""
    return sum(part_bytes(plan[name], shape) for name, shape in shapes.items()) + 50_000 * layers + 10_000


def fill(skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path) -> None:
    """Writes the skeleton's program with these weights to `path`. Peak memory: about two tensors."""
    skeleton.unpack(path)
    with path.open("r+b") as file:
        for _ in packing.write_slots(file, skeleton.slots, weights, parts):
            pass


def read_back(path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint) -> dict[str, bool]:
    """tensor -> True if all that the file holds of it, in every signature, equals the checkpoint's, bit for bit."""
    return packing.read_back(path, slots, weights, parts, weights.plan.tensors)
