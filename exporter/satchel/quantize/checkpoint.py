"""The QuantizedCheckpoint: codes, scales and offsets, the single source of every backend's weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from satchel.quantize.plan import QuantPlan, TensorPlan


@dataclass(frozen=True)
class QuantizedTensor:
    """One tensor on its grid: `weight = scale * code (+ offset)`.

    int4: codes int8 [out, in] in -8..7; scale float32 [out, in / group], each value exactly a positive normal
    bfloat16; offset float32 [out, in / group] or None. int8: codes int8 [out, in] in -127..127; scale float32 [out].
    float: values float32 of any shape; codes, scale and offset None.
    """

    plan: TensorPlan
    codes: NDArray[np.int8] | None = None
    scale: NDArray[np.float32] | None = None
    offset: NDArray[np.float32] | None = None
    values: NDArray[np.float32] | None = None


class QuantizedCheckpoint(Protocol):
    """Read-only; tensors come from a file one at a time."""

    @property
    def plan(self) -> QuantPlan: ...

    @property
    def origin(self) -> Mapping[str, str]:
        """tensor -> "transcoded" | "requantized" | "quantized" | "float"."""
        ...

    @property
    def sha256(self) -> str:
        """Content hash of all codes, scales, offsets and values."""
        ...

    def read(self, name: str) -> QuantizedTensor:
        """The tensor `plan.canonical(name)`."""
        ...

    def names(self) -> Iterator[str]: ...
