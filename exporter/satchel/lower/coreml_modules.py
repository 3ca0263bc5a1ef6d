"""Modules that take the place of a model's own, by kind and for every family alike, because float16 needs care.

- A norm's sum of squares overflows float16 from values of 256 on, and residual streams reach tens of thousands:
  `SafeRMSNorm` divides by the largest value first.
- A rotary angle `frequency * position` is nonsense in float16: `TableRotary` looks cosines and sines up.
- A sum of 32 activations may overflow where their mean can't: `BlockMeans`.
"""

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from satchel.errors import LoweringError
from satchel.lower.quantized import OffsetLinear


def make_safe_for_float16(model: nn.Module, context_length: int) -> None:
    """Replaces norms, rotary embeddings and block sums of a transformers model whose weights are in place.

    Raises LoweringError if a norm is of a kind that isn't known.
    """
    for name, module in list(model.named_modules()):
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            _replace(model, name, SafeRMSNorm.like(name, module))
        elif kind.endswith("RotaryEmbedding"):
            _replace(model, name, TableRotary(module, context_length))
        elif isinstance(module, OffsetLinear):
            _use_means(module)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            _replace(model, name, KnownWidth(module))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


class SafeRMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * gain` over the last axis, without a number larger than the largest |x|.

    With m = max |x| and y = x / m this is `y / sqrt(mean(y^2) + (sqrt(eps) / m)^2) * gain`, and mean(y^2) lies between
    1 / n and 1. gain float32 [n].
    """

    gain: torch.Tensor
    root_epsilon: torch.Tensor

    def __init__(self, gain: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self.register_buffer("gain", gain.detach().clone(), persistent=False)
        # A tensor, so that it is divided: the reciprocal operator adds 1e-4 to what it inverts.
        self.register_buffer("root_epsilon", torch.tensor(epsilon**0.5), persistent=False)

    @classmethod
    def like(cls, name: str, module: nn.Module) -> "SafeRMSNorm":
        """The safe norm that computes what `module` does: families multiply by the weight or by 1 + weight."""
        parameters = dict(module.named_parameters(recurse=False))
        epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        if list(parameters) == ["weight"] and epsilon is not None:
            weight = parameters["weight"]
            probe = torch.randn(3, len(weight), generator=torch.Generator().manual_seed(1))
            expected = module(probe)
            for gain in (weight, 1.0 + weight):
                safe = cls(gain, float(epsilon))
                if torch.allclose(safe(probe), expected, rtol=1e-4, atol=1e-5):
                    return safe
        raise LoweringError(f"{name}: {type(module).__name__} is no norm that can be lowered for float16")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        largest = x.abs().amax(-1, keepdim=True).clamp(_SMALLEST, _LARGEST)
        y = x / largest
        root = self.root_epsilon / largest
        return y * torch.rsqrt((y * y).mean(-1, keepdim=True) + root * root) * self.gain


# An input that is all but zero is not scaled up further: its reciprocal must stay in float16's range.
_SMALLEST = 1e-3
_LARGEST = 65504.0  # of float16; without an upper bound coremltools writes infinity


class TableRotary(nn.Module):
    """Cosines and sines [1, n, dim] of positions [1, n] from tables over the whole context, one pair per layer kind.

    The tables come from the model's own rotary embedding, in float32, whatever its scaling.
    """

    def __init__(self, rotary: nn.Module, context_length: int) -> None:
        super().__init__()
        self._number: dict[str | None, int] = {}
        positions = torch.arange(context_length).unsqueeze(0)
        kinds: list[str | None] = list(getattr(rotary, "layer_types", None) or [None])
        for number, kind in enumerate(kinds):
            self._number[kind] = number
            cos, sin = rotary(torch.zeros(1), positions, *([] if kind is None else [kind]))
            self.register_buffer(f"cos_{number}", cos[0].contiguous(), persistent=False)
            self.register_buffer(f"sin_{number}", sin[0].contiguous(), persistent=False)

    def forward(
        self, x: torch.Tensor, position_ids: torch.Tensor, layer_type: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        number = self._number[layer_type]
        cos, sin = (cast(torch.Tensor, getattr(self, f"{name}_{number}")) for name in ("cos", "sin"))
        return functional.embedding(position_ids, cos), functional.embedding(position_ids, sin)


class BlockMeans(nn.Module):
    """x [1, n, in] -> the mean of each group of inputs [1, n, in / group]."""

    def __init__(self, inputs: int, group: int) -> None:
        super().__init__()
        self.blocks, self.group = inputs // group, group

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, -1, self.blocks, self.group).mean(-1)


def _use_means(module: OffsetLinear) -> None:
    """`offset(sums(x))` becomes `(group * offset)(means(x))`; times a power of two is exact."""
    sums, offset = cast(Any, module.block_sums), cast(Any, module.offset)
    module.block_sums = BlockMeans(offset.in_features * sums.group, sums.group)
    offset.weight = nn.Parameter(offset.weight * sums.group, requires_grad=False)


class KnownWidth(nn.Module):
    """A linear that tells its input's width, which a traced attention leaves open."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    @property
    def weight(self) -> torch.Tensor:
        return self.linear.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x.reshape(1, -1, self.linear.in_features))
        return out
