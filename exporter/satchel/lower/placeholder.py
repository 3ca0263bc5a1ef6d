"""Random, all-distinct weights to lower a Skeleton with: each is then found again in the program by its content."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.plan import QuantPlan


@dataclass(frozen=True)
class PlaceholderWeights:
    """A QuantizedCheckpoint of the plan's form. The same name, shape and seed give the same numbers.

    Weights have the spread of a usual initialisation (1 / sqrt(inputs)) and the mean 0, so that a model of them has
    sane activations. Codes from -8 to 7 alike would have the mean -1/2: a direction that all matrices share, into which
    they turn every token, until a difference of 1e-7 in float32 decides what attention sees.
    """

    plan: QuantPlan
    shapes: Mapping[str, tuple[int, ...]]  # parameter of the program -> shape
    origin: Mapping[str, str]
    sha256: str = "placeholder"
    seed: int = 0

    def names(self) -> Iterator[str]:
        return iter(self.shapes)

    def read(self, name: str) -> QuantizedTensor:
        """Unlike a real checkpoint's, a tied head differs from the embedding: equal tensors would share a slot."""
        plan, shape = self.plan[name], self.shapes[name]
        own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        random = np.random.default_rng([own, self.seed] if self.seed else own)
        spread = 1.0 / math.sqrt(shape[-1])
        if plan.scheme == "float":
            values = random.normal(0.0, spread, shape) if len(shape) > 1 else random.uniform(0.5, 1.5, shape)
            return QuantizedTensor(plan, values=values.astype(np.float32))
        rows, width = shape
        if plan.scheme == "int8":
            codes = random.integers(-127, 128, shape, dtype=np.int8)
            scale = random.uniform(0.5, 1.5, rows).astype(np.float32) * np.float32(spread / 73)
            return QuantizedTensor(plan, codes=codes, scale=scale)
        codes = random.integers(-7, 8, shape, dtype=np.int8)
        codes[np.arange(rows), np.arange(rows) % width] = -8
        groups = (rows, width // plan.group)
        scale = _bfloat16(random.uniform(0.5, 1.5, groups) * spread / 4.6)
        offset = random.normal(0.0, spread / 4, groups).astype(np.float32) if plan.offset else None
        return QuantizedTensor(plan, codes=codes, scale=scale, offset=offset)


class TiedPlaceholders(PlaceholderWeights):
    """Placeholders whose tied head is the embedding, as Hugging Face's model has it."""

    def read(self, name: str) -> QuantizedTensor:
        return super().read(self.plan.canonical(name))


def _bfloat16(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)
