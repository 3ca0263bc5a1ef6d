"""Gives a converted program the quantized weights it stands for.

coremltools' own quantizers choose codes of their own. So a program is converted with dequantized weights, and a last
graph pass finds each of them by its content and declares what it is: `constexpr_blockwise_shift_scale` of int4 codes
with a float16 scale per block, or of int8 codes with a float16 scale per row.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from coremltools.converters.mil.mil import Builder, types
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.helper import block_context_manager
from coremltools.converters.mil.mil.passes.pass_registry import register_pass
from numpy.typing import NDArray

from satchel.errors import LoweringError
from satchel.formats.carried import carried_offset, code_weight
from satchel.formats.mlpackage import OFFSET_SCALE, float16_scale
from satchel.formats.mlpackage_native import native_weight, shift
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor

PASS = "satchel::declare_quantized_weights"


@dataclass(frozen=True)
class Declaration:
    """A matrix of the program: its name in an error, int4, uint4 or int8 codes, float16 scales and shifts
    [out, blocks]."""

    name: str
    codes: NDArray[Any]
    scale: NDArray[np.float16]
    shift: NDArray[np.float16] | None = None


def declarations(weights: QuantizedCheckpoint, names: Sequence[str], native_offset: bool) -> dict[str, Declaration]:
    """sha256 of each matrix as the converted program holds it -> what it is."""
    found: dict[str, Declaration] = {}
    for name in names:
        whole = weights.read(name)
        if native_offset and whole.offset is not None:
            found[_digest(native_weight(whole).astype(np.float16))] = _with_shift(name, whole)
            continue
        for part, tensor, factor in _matrices(name, whole):
            assert tensor.codes is not None and tensor.scale is not None
            grouped = tensor.plan.scheme == "int4"
            codes = tensor.codes.astype(types.nptype_from_builtin(types.int4)) if grouped else tensor.codes
            scale = float16_scale(tensor.scale * np.float32(factor)).reshape(len(codes), -1)
            held = (code_weight(tensor) * np.float32(factor)).astype(np.float16)
            found[_digest(held)] = Declaration(part, codes, scale)
    return found


def _with_shift(name: str, tensor: QuantizedTensor) -> Declaration:
    assert tensor.codes is not None and tensor.scale is not None
    codes = (tensor.codes + np.int8(8)).astype(types.nptype_from_builtin(types.uint4))
    return Declaration(name, codes, float16_scale(tensor.scale), shift(tensor))


def _matrices(name: str, tensor: QuantizedTensor) -> Iterator[tuple[str, QuantizedTensor, int]]:
    """(name, quantized matrix, factor that the program has it multiplied with)."""
    if tensor.codes is not None:
        yield name, tensor, 1
    if tensor.offset is not None:
        yield f"{name}.offset", carried_offset(tensor), OFFSET_SCALE


def declare(wanted: Mapping[str, Declaration]) -> str:
    """Registers the pass that puts these declarations in the place of the weights; returns its name.

    The pass raises LoweringError if one of them is not in the program exactly once.
    """

    @register_pass("satchel", override=True)
    class declare_quantized_weights(AbstractGraphPass):  # type: ignore[misc]  # noqa: N801  the name is the pass's
        def apply(self, program: Any) -> None:
            seen: list[str] = []
            for function in program.functions.values():
                seen += _declare_in(function, wanted)
            counts = {declaration.name: seen.count(declaration.name) for declaration in wanted.values()}
            wrong = [f"{name}: {count}" for name, count in counts.items() if count != 1]
            if wrong:
                raise LoweringError(f"coremltools left not one copy each of {', '.join(wrong)}")

    return PASS


@block_context_manager  # type: ignore[untyped-decorator]
def _declare_in(block: Any, wanted: Mapping[str, Declaration]) -> list[str]:
    """Replaces what is wanted in one block; returns the names of what was replaced."""
    seen = []
    for operation in list(block.operations):
        if operation.op_type != "const" or operation.outputs[0].rank != 2 or not operation.outputs[0].child_ops:
            continue
        constant = operation.outputs[0]
        declaration = wanted.get(_digest(constant.val))
        if declaration is None:
            continue
        seen.append(declaration.name)
        replacement = Builder.constexpr_blockwise_shift_scale(
            data=declaration.codes,
            scale=declaration.scale,
            offset=declaration.shift,
            before_op=operation,
            name=f"{constant.name}_quantized",
        )
        block.replace_uses_of_var_after_op(
            anchor_op=operation, old_var=constant, new_var=replacement, force_replace=True
        )
        block.remove_ops([operation])
    return seen


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
