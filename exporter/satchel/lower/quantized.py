"""Puts a QuantizedCheckpoint's weights into a transformers model, in the form XNNPACK's kernels take.

A block is `w = scale * code (+ offset)`. The first term is a symmetric int4 linear with dynamic int8 activations; the
offset is a second, small linear over block sums of the input: `y = Q4(x) + C . blocksum32(x)` (design, section 4).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from satchel.errors import BadWeightsError, InternalError
from satchel.formats.pte import carried_offset
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor

_INT4: torch.dtype = torch.int4  # type: ignore[attr-defined]  # there, but missing in torch's stubs


def install(model: nn.Module, weights: QuantizedCheckpoint, *, dequantized: bool = False) -> None:
    """Replaces every parameter of `model` by its quantized form.

    dequantized: the same decomposition (offset linears and all) with float32 weights and activations, which a graph
    proof can compare to 1e-4; int8 activations would hide a mis-wired offset behind their rounding.
    Raises BadWeightsError if the checkpoint lacks a parameter or has another shape.
    """
    block_sums: dict[tuple[int, int], torch.Tensor] = {}
    for module_name, module in list(model.named_modules()):
        for parameter_name, parameter in list(module.named_parameters(recurse=False)):
            name = f"{module_name}.{parameter_name}"
            tensor = weights.read(name)
            _check_shape(name, tensor, parameter)
            if tensor.values is not None:
                _set(module, parameter_name, torch.from_numpy(tensor.values))
            elif isinstance(module, nn.Embedding):
                _set(module, parameter_name, _plain(tensor) if dequantized else _int8_rows(tensor, activations=False))
            elif isinstance(module, nn.Linear):
                parent_name, _, child = module_name.rpartition(".")
                setattr(model.get_submodule(parent_name), child, _linear(module, tensor, block_sums, dequantized))
            else:
                raise InternalError(f"{name}: a quantized {type(module).__name__} has no lowering")


class OffsetLinear(nn.Module):
    """`y = codes(x) + offset(x @ block_sum^T)`: x [..., in] -> y [..., out]; block_sum float32 [in / group, in]."""

    block_sum: torch.Tensor

    def __init__(self, codes: nn.Linear, offset: nn.Linear, block_sum: torch.Tensor) -> None:
        super().__init__()
        self.codes = codes
        self.offset = offset
        # Read inside forward: a closed-over tensor would become a lifted constant, which to_executorch refuses.
        self.register_buffer("block_sum", block_sum, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.codes(x) + self.offset(functional.linear(x, self.block_sum))
        return out


def _linear(
    module: nn.Linear, tensor: QuantizedTensor, block_sums: dict[tuple[int, int], torch.Tensor], dequantized: bool
) -> nn.Module:
    if tensor.plan.scheme == "int8":
        _set(module, "weight", _plain(tensor) if dequantized else _int8_rows(tensor, activations=True))
        return module
    _set(module, "weight", _plain(tensor) if dequantized else _int4_groups(tensor))
    if tensor.offset is None:
        return module
    group = tensor.plan.group
    key = (module.in_features, group)
    if key not in block_sums:
        block_sums[key] = torch.eye(module.in_features // group).repeat_interleave(group, dim=1).contiguous()
    carried = carried_offset(tensor)
    offset = nn.Linear(module.in_features // group, module.out_features, bias=False, device="meta")
    _set(offset, "weight", _plain(carried) if dequantized else _int8_rows(carried, activations=True))
    return OffsetLinear(module, offset, block_sums[key])


def _set(module: nn.Module, name: str, value: torch.Tensor) -> None:
    setattr(module, name, nn.Parameter(value, requires_grad=False))


def _plain(tensor: QuantizedTensor) -> torch.Tensor:
    """`scale * code`, float32, without the offset."""
    assert tensor.codes is not None and tensor.scale is not None
    codes, scale = torch.from_numpy(tensor.codes).float(), torch.from_numpy(tensor.scale)
    return codes * (scale.repeat_interleave(tensor.plan.group, 1) if tensor.plan.scheme == "int4" else scale[:, None])


def _int4_groups(tensor: QuantizedTensor) -> torch.Tensor:
    assert tensor.codes is not None and tensor.scale is not None
    return _intx(tensor.codes, tensor.scale, _INT4, tensor.plan.group, activations=True)


def _int8_rows(tensor: QuantizedTensor, *, activations: bool) -> torch.Tensor:
    assert tensor.codes is not None and tensor.scale is not None
    return _intx(tensor.codes, tensor.scale.reshape(-1, 1), torch.int8, tensor.codes.shape[1], activations=activations)


def _intx(
    codes: NDArray[np.int8], scale: NDArray[np.float32], dtype: torch.dtype, group: int, *, activations: bool
) -> torch.Tensor:
    """torchao's tensor for given codes; `activations` asks for dynamic int8 activations per token."""
    from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
        IntxUnpackedToInt8Tensor,
        IntxUnpackedToInt8TensorActivationQuantization,
    )

    scales = torch.from_numpy(scale).contiguous()
    tensor: torch.Tensor = IntxUnpackedToInt8Tensor(
        qdata=torch.from_numpy(codes).contiguous(),
        scale=scales,
        zero_point=torch.zeros_like(scales, dtype=torch.int8),
        target_dtype=dtype,
        block_size=(1, group),
        dtype=torch.float32,
        activation_quantization=(
            IntxUnpackedToInt8TensorActivationQuantization.INT8_ASYM_PER_TOKEN if activations else None
        ),
    )
    return tensor


def _check_shape(name: str, tensor: QuantizedTensor, parameter: torch.Tensor) -> None:
    stored = tensor.values if tensor.values is not None else tensor.codes
    if stored is None or tuple(stored.shape) != tuple(parameter.shape):
        found = None if stored is None else tuple(stored.shape)
        raise BadWeightsError(f"{name}: the model needs shape {tuple(parameter.shape)}, the checkpoint has {found}")
