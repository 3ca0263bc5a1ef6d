"""The QuantPlan: per tensor, how many bits, in which groups, with or without offset. Pure data for all backends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Scheme = Literal["int4", "int8", "float"]


@dataclass(frozen=True)
class TensorPlan:
    """How one weight [out, in] is stored.

    int4: symmetric codes -8..7, one bfloat16 scale per `group` inputs, and a float32 offset per group if `offset`.
    int8: symmetric codes -127..127, one float32 scale per output channel (row); `group` is 0.
    float: float32.
    """

    scheme: Scheme
    group: int = 0
    offset: bool = False


@dataclass(frozen=True)
class QuantPlan:
    """tensor name -> TensorPlan, for every tensor of the model (norms are float).

    A tied head has no entry of its own: `lm_head.weight` stands for `model.embed_tokens.weight` (see `canonical`).
    """

    tensors: Mapping[str, TensorPlan]
    tied: bool

    def canonical(self, name: str) -> str:
        """The name under which the tensor is quantized: the embedding's for a tied head."""
        return "model.embed_tokens.weight" if self.tied and name == "lm_head.weight" else name

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON data, the form of every file and key that has one."""
        tensors = {name: [entry.scheme, entry.group, entry.offset] for name, entry in self.tensors.items()}
        return {"tied": self.tied, "tensors": tensors}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "QuantPlan":
        return cls({name: TensorPlan(*entry) for name, entry in data["tensors"].items()}, data["tied"])

    def __getitem__(self, name: str) -> TensorPlan:
        return self.tensors[self.canonical(name)]
