"""Operations on each element: arithmetic, comparison, activation, casts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from satchel.runtimes.mil.values import Array, Function, Inputs

_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def erf(x: Array) -> Array:
    """The error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26), in float64 inside."""
    wide = np.abs(x).astype(np.float64)
    t = 1 / (1 + 0.3275911 * wide)
    polynomial = np.zeros_like(t)
    for coefficient in reversed(_ERF):
        polynomial = (polynomial + coefficient) * t
    return np.copysign(1 - polynomial * np.exp(-wide * wide), x).astype(np.float32)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _gelu(inputs: Inputs) -> Array:
    x, mode = inputs["x"], inputs.text("mode", "EXACT")
    if mode == "EXACT":
        return np.asarray(x * np.float32(0.5) * (1 + erf(x * np.float32(0.5**0.5))))
    if mode == "TANH_APPROXIMATION":
        inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)
        return np.asarray(x * np.float32(0.5) * (1 + np.tanh(inner)))
    if mode == "SIGMOID_APPROXIMATION":
        return np.asarray(x * sigmoid(np.float32(1.702) * x))
    raise ValueError(f"gelu of mode {mode}")


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, np.float32(0)))


def _cast(inputs: Inputs) -> Array:
    """The result's declared type says to what; floats become whole numbers by dropping their fraction."""
    x = inputs["x"]
    return np.not_equal(x, 0) if inputs.text("dtype", "") == "bool" else x


def _unary(function: Callable[[Any], Any]) -> Function:
    return lambda inputs: function(inputs["x"])


def _binary(function: Callable[[Any, Any], Any]) -> Function:
    return lambda inputs: function(inputs["x"], inputs["y"])


def _ab(function: Callable[[Any, Any, Any], Any]) -> Function:
    """An activation with parameters alpha and beta."""
    return lambda inputs: function(inputs["x"], inputs["alpha"], inputs["beta"])


ELEMENTWISE: dict[str, Function] = {
    # arithmetic
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "real_div": _binary(np.true_divide),
    "pow": _binary(np.power),
    "maximum": _binary(np.maximum),
    # comparison and choice
    "greater_equal": _binary(np.greater_equal),
    "less": _binary(np.less),
    "select": lambda inputs: np.where(inputs["cond"], inputs["a"], inputs["b"]),
    # functions
    "abs": _unary(np.abs),
    "erf": _unary(erf),
    "sqrt": _unary(np.sqrt),
    "tanh": _unary(np.tanh),
    "rsqrt": lambda inputs: np.float32(1) / np.sqrt(inputs["x"] + inputs.number("epsilon", 1e-12)),
    "clip": _ab(np.clip),
    # activations
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "leaky_relu": lambda inputs: np.where(inputs["x"] >= 0, inputs["x"], inputs["alpha"] * inputs["x"]),
    "thresholded_relu": lambda inputs: np.where(inputs["x"] >= inputs["alpha"], inputs["x"], np.float32(0)),
    "gelu": _gelu,
    "silu": _unary(lambda x: x * sigmoid(x)),
    "sigmoid": _unary(sigmoid),
    "sigmoid_hard": _ab(lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1)),
    "softplus": _unary(_softplus),
    # types
    "cast": _cast,
}
