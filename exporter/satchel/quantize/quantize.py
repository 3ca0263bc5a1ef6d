"""Checkpoint + QuantPlan -> QuantizedCheckpoint: once for every backend, one tensor in memory at a time."""

from collections.abc import Callable
from pathlib import Path

from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.grid import quantize_weight
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.quantize.stored import StoredQuantizedCheckpoint, write_quantized
from satchel.quantize.transcode import transcode
from satchel.source.checkpoint import Checkpoint

_FLOAT_TYPES = {"F64", "F32", "F16", "BF16"}


def quantize(
    checkpoint: Checkpoint,
    plan: QuantPlan,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> StoredQuantizedCheckpoint:
    """Quantize every tensor of the plan into the folder `out`; `progress(done, total)` counts tensors.

    Each tensor's origin says how it got its codes: "transcoded" (the source's own 4-bit codes), "requantized"
    (dequantized from another grid first), "quantized" (from floats) or "float". Raises BadWeightsError.
    """
    finished = 0

    def one(name: str) -> tuple[QuantizedTensor, str]:
        nonlocal finished
        result = quantize_tensor(checkpoint, name, plan[name])
        finished += 1
        progress(finished, len(plan.tensors))
        return result

    return write_quantized(out, plan, checkpoint.tensors, one)


def quantize_tensor(checkpoint: Checkpoint, name: str, plan: TensorPlan) -> tuple[QuantizedTensor, str]:
    """One tensor under its plan, and its origin."""
    if plan.scheme == "float":
        return QuantizedTensor(plan, values=checkpoint.read(name)), "float"
    source = checkpoint.codes(name) if plan.scheme == "int4" else None
    grid = transcode(source, plan) if source is not None else None
    if grid is not None:
        origin = "transcoded"
    else:
        grid = quantize_weight(checkpoint.read(name), plan)
        origin = "quantized" if checkpoint.tensors[name].stored_type in _FLOAT_TYPES else "requantized"
    return QuantizedTensor(plan, codes=grid.codes, scale=grid.scale, offset=grid.offset), origin
