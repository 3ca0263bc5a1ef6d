"""A Core ML program whose block offsets stand inside the weight (`--coreml-offset native`): as `mlpackage`, but that a
block is `scale * (code + 8 - shift)` with uint4 codes and a float16 shift, and there is no second linear.

The operation's definition allows a float offset for integer codes. Nobody is known to have run one on a device.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BadWeightsError
from satchel.formats import mlpackage
from satchel.formats.carried import code_weight
from satchel.formats.mlpackage import PROGRAM_FILE as PROGRAM_FILE
from satchel.formats.mlpackage import first_difference as first_difference
from satchel.formats.mlpackage import float16_scale
from satchel.formats.mlpackage import weights_file as weights_file
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.quantize.plan import QuantPlan
from satchel.skeleton.table import Skeleton, Slot

SHIFT = "shift"  # the part's name in the table of slots


def shift(tensor: QuantizedTensor) -> NDArray[np.float16]:
    """The block's offset in units of its scale, counted from code -8: float16 [out, in / group].

    Raises BadWeightsError if it doesn't fit.
    """
    assert tensor.scale is not None and tensor.offset is not None
    exact = np.float32(8) - tensor.offset / float16_scale(tensor.scale).astype(np.float32)
    if np.abs(exact).max() > np.finfo(np.float16).max:
        raise BadWeightsError(
            f"An offset is {np.abs(exact).max():.3g} times its scale, too much for float16. Use --coreml-offset linear."
        )
    return exact.astype(np.float16)


def native_weight(tensor: QuantizedTensor) -> NDArray[np.float32]:
    """The float32 weight that the program stands for."""
    if tensor.values is not None:
        return tensor.values
    if tensor.offset is None:
        return code_weight(tensor)
    assert tensor.codes is not None and tensor.scale is not None
    scale, moved = float16_scale(tensor.scale).astype(np.float32), shift(tensor).astype(np.float32)
    group = tensor.plan.group
    codes = tensor.codes.astype(np.float32) + np.float32(8)
    return np.repeat(scale, group, axis=1) * (codes - np.repeat(moved, group, axis=1))


def parts(tensor: QuantizedTensor) -> Iterator[tuple[str, tuple[str, ...], NDArray[Any]]]:
    """(part, possible packings, array) of everything the file holds of this tensor."""
    if tensor.offset is None:
        yield from mlpackage.parts(tensor)
        return
    assert tensor.codes is not None and tensor.scale is not None
    yield "codes", ("uint4",), tensor.codes
    yield "scale", ("float16",), tensor.scale
    yield SHIFT, ("float16_values",), shift(tensor).astype(np.float32)


def predict_bytes(
    plan: QuantPlan, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], context_length: int
) -> int:
    """Size of the package before anything is built: no second linear, but two bytes more per block."""
    without = QuantPlan({name: replace(entry, offset=False) for name, entry in plan.tensors.items()}, plan.tied)
    blocks = sum(
        shapes[name][0] * shapes[name][1] // entry.group for name, entry in plan.tensors.items() if entry.offset
    )
    return mlpackage.predict_bytes(without, shapes, config, context_length) + 2 * blocks


def find_slots(files: mlpackage.Files, weights: QuantizedCheckpoint, parameters: Iterable[str]) -> list[Slot]:
    return mlpackage.find_slots(files, weights, parameters, parts)


def fill(skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path) -> None:
    mlpackage.fill(skeleton, weights, path, parts)


def read_back(path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint) -> dict[str, bool]:
    return mlpackage.read_back(path, slots, weights, parts)
