"""One operation with inputs and what PyTorch makes of them, and the values that such cases are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

random = np.random.default_rng(10)


def floats(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def unit(*shape: int) -> np.ndarray:
    """Within 0.1 and 0.9."""
    return random.uniform(0.1, 0.9, shape).astype(np.float32)


def whole(most: int, *shape: int) -> np.ndarray:
    return random.integers(0, most, shape).astype(np.int32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def t(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array))


X, Y, POSITIVE = floats(2, 3, 4), floats(2, 3, 4), unit(2, 3, 4)
IMAGE, WIDE = floats(2, 4, 7, 6), floats(1, 6, 5, 8)
NUMBERS, DIVISORS = whole(20, 3, 4) - 10, whole(5, 3, 4) + 1


@dataclass
class Case:
    """inputs: arrays; a text starts with =. expected: a tensor or several. given: those that are inputs of the program,
    the others are constants in it."""

    operation: str
    inputs: dict[str, Any]
    expected: Any
    given: tuple[str, ...] = ("x",)
    tolerance: float = 2e-6


def unary(name: str, function: Callable[[Tensor], Tensor], x: np.ndarray = X, **more: Any) -> Case:
    return Case(name, {"x": x, **more}, function(t(x)))


def binary(name: str, function: Callable[[Tensor, Tensor], Tensor], x: np.ndarray = X, y: np.ndarray = Y) -> Case:
    return Case(name, {"x": x, "y": y}, function(t(x), t(y)), given=("x", "y"))


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def moved(name: str, expected: Any, x: np.ndarray = X, **more: Any) -> Case:
    return Case(name, {"x": x, **more}, expected)
