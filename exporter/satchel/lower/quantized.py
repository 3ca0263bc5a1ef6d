"""Puts a QuantizedCheckpoint's weights into a transformers model, in the form XNNPACK's kernels take.

A block is `w = scale * code (+ offset)`. The first term is a symmetric int4 linear with dynamic int8 activations; the
offset is a second, small linear over block sums of the input: `y = Q4(x) + C . blocksum32(x)` (design, section 4).
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from satchel.errors import BadWeightsError, InternalError
from satchel.formats.carried import carried_offset, code_weight
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor

MakeBlockSums = Callable[[int, int], nn.Module]


def install(
    model: nn.Module,
    weights: QuantizedCheckpoint,
    make_block_sums: MakeBlockSums,
    *,
    dequantized: bool = False,
) -> None:
    """Replaces every parameter of `model` by its quantized form.

    dequantized: the same decomposition (offset linears and all) with float32 weights and activations, which a graph
    proof can compare closely; int8 activations would hide a mis-wired offset behind their rounding.
    make_block_sums(inputs, group): the module that sums the input's groups for the offsets.
    Raises BadWeightsError if the checkpoint lacks a parameter or has another shape.
    """
    block_sums = cache(make_block_sums)
    import torchao.quantization  # noqa: F401  registers torch.ops.torchao

    for module_name, module in list(model.named_modules()):
        tensors = {
            name: _read(weights, f"{module_name}.{name}", p) for name, p in module.named_parameters(recurse=False)
        }
        if isinstance(module, nn.Linear) and tensors["weight"].values is None:
            parent, _, child = module_name.rpartition(".")
            bias = tensors["bias"].values if "bias" in tensors else None
            setattr(model.get_submodule(parent), child, _linear(tensors["weight"], bias, block_sums, dequantized))
            continue
        for name, tensor in tensors.items():
            if tensor.values is not None:
                _set(module, name, torch.from_numpy(tensor.values))
            elif isinstance(module, nn.Embedding):
                _set(module, name, torch.from_numpy(code_weight(tensor)) if dequantized else _torchao_rows(tensor))
            else:
                raise InternalError(f"{module_name}.{name}: a quantized {type(module).__name__} has no lowering")


def _read(weights: QuantizedCheckpoint, name: str, parameter: torch.Tensor) -> QuantizedTensor:
    tensor = weights.read(name)
    stored = tensor.values if tensor.values is not None else tensor.codes
    if stored is None or tuple(stored.shape) != tuple(parameter.shape):
        found = None if stored is None else tuple(stored.shape)
        raise BadWeightsError(f"{name}: the model needs shape {tuple(parameter.shape)}, the checkpoint has {found}")
    return tensor


def _set(module: nn.Module, name: str, value: torch.Tensor) -> None:
    setattr(module, name, nn.Parameter(value, requires_grad=False))


def _linear(
    tensor: QuantizedTensor,
    bias: NDArray[np.float32] | None,
    block_sums: MakeBlockSums,
    dequantized: bool,
) -> nn.Module:
    """The linear of one quantized weight, with its offsets if it has any."""
    codes = _plain_linear(tensor, bias, dequantized)
    if tensor.offset is None:
        return codes
    assert tensor.codes is not None
    sums = block_sums(tensor.codes.shape[1], tensor.plan.group)
    return OffsetLinear(codes, _plain_linear(carried_offset(tensor), None, dequantized), sums)


def _plain_linear(tensor: QuantizedTensor, bias: NDArray[np.float32] | None, dequantized: bool) -> nn.Module:
    if not dequantized:
        return QuantizedLinear(QuantizedWeight(tensor), None if bias is None else torch.from_numpy(bias))
    weight = torch.from_numpy(code_weight(tensor))
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    _set(linear, "weight", weight)
    if bias is not None:
        _set(linear, "bias", torch.from_numpy(bias))
    return linear


def _torchao_rows(tensor: QuantizedTensor) -> torch.Tensor:
    """int8 rows as torchao's tensor: whatever forward the model's embedding has (Gemma's scales it) works on it."""
    from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import IntxUnpackedToInt8Tensor

    assert tensor.codes is not None
    assert tensor.scale is not None
    scale = torch.from_numpy(tensor.scale).reshape(-1, 1)
    rows: torch.Tensor = IntxUnpackedToInt8Tensor(
        qdata=torch.from_numpy(tensor.codes),
        scale=scale.clone(),
        zero_point=torch.zeros_like(scale, dtype=torch.int8),
        target_dtype=torch.int8,
        block_size=(1, tensor.codes.shape[1]),
        dtype=torch.float32,
        activation_quantization=None,
    )
    return rows


class QuantizedWeight(nn.Module):
    """Integer codes and scales as buffers; `forward()` is the float32 weight the kernels stand for.

    codes int8 [out, in]; scale float32 [out, in / group]. The operators are torchao's, which XNNPACK's partitioner
    recognises. Its tensor subclasses say the same but make export and every retrace twice as slow.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor

    def __init__(self, tensor: QuantizedTensor) -> None:
        super().__init__()
        assert tensor.codes is not None
        assert tensor.scale is not None
        rows, width = tensor.codes.shape
        self.group = tensor.plan.group if tensor.plan.scheme == "int4" else width
        self.low, self.high = (-8, 7) if tensor.plan.scheme == "int4" else (-128, 127)
        # A view with a stride of 0 is refused later, hence the clone.
        scales = torch.from_numpy(tensor.scale).reshape(rows, -1).clone()
        self.register_buffer("codes", torch.from_numpy(tensor.codes))
        self.register_buffer("scale", scales)
        self.register_buffer("zero", torch.zeros_like(scales, dtype=torch.int8))

    def forward(self) -> torch.Tensor:
        block = [1, self.group]
        weight: torch.Tensor = torch.ops.torchao.dequantize_affine(
            self.codes, block, self.scale, self.zero, torch.int8, self.low, self.high
        )
        return weight


class QuantizedLinear(nn.Module):
    """A linear with dynamic int8 activations (asymmetric, per token): x [..., in] -> y [..., out]."""

    def __init__(self, weight: QuantizedWeight, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        operators = torch.ops.torchao
        block, limits = [1] * (x.dim() - 1) + [x.shape[-1]], (-128, 127)
        scale, zero = operators.choose_qparams_affine(
            x, "ASYMMETRIC", block, torch.int8, *limits, None, None, torch.int8
        )
        codes = operators.quantize_affine(x, block, scale, zero, torch.int8, *limits)
        return functional.linear(
            operators.dequantize_affine(codes, block, scale, zero, torch.int8, *limits), self.weight(), self.bias
        )


class OffsetLinear(nn.Module):
    """`y = codes(x) + offset(block_sums(x))`: x [..., in] -> y [..., out]."""

    def __init__(self, codes: nn.Module, offset: nn.Module, block_sums: nn.Module) -> None:
        super().__init__()
        self.codes = codes
        self.offset = offset
        self.block_sums = block_sums

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.codes(x) + self.offset(self.block_sums(x))
        return out


class BlockSumsByLinear(nn.Module):
    """x [..., in] -> the sum of each group of inputs [..., in / group], as a product with a matrix of ones and zeros:
    XNNPACK under ExecuTorch has no sum."""

    ones: torch.Tensor

    def __init__(self, inputs: int, group: int) -> None:
        super().__init__()
        # Read inside forward: a closed-over tensor would become a lifted constant, which to_executorch refuses.
        ones = torch.eye(inputs // group).repeat_interleave(group, dim=1).contiguous()
        self.register_buffer("ones", ones, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.ones)


class BlockSums(nn.Module):
    """x [..., in] -> the sum of each group of inputs [..., in / group]."""

    def __init__(self, inputs: int, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:-1], -1, self.group).sum(-1)
