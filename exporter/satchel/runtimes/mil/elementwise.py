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


def _prelu(inputs: Inputs) -> Array:
    x = inputs["x"]
    alpha = np.asarray(inputs["alpha"]).reshape(-1, *[1] * (x.ndim - 2))  # per channel, axis 1
    return np.where(x >= 0, x, alpha * x)


def _elu(inputs: Inputs) -> Array:
    x = inputs["x"]
    return np.where(x >= 0, x, inputs["alpha"] * np.expm1(np.minimum(x, 0)))


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
    "floor_div": _binary(np.floor_divide),
    "mod": _binary(np.mod),
    "pow": _binary(np.power),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    # comparison and logic
    "equal": _binary(np.equal),
    "not_equal": _binary(np.not_equal),
    "greater": _binary(np.greater),
    "greater_equal": _binary(np.greater_equal),
    "less": _binary(np.less),
    "less_equal": _binary(np.less_equal),
    "logical_and": _binary(np.logical_and),
    "logical_or": _binary(np.logical_or),
    "logical_xor": _binary(np.logical_xor),
    "logical_not": _unary(np.logical_not),
    "select": lambda inputs: np.where(inputs["cond"], inputs["a"], inputs["b"]),
    # functions
    "abs": _unary(np.abs),
    "acos": _unary(np.arccos),
    "asin": _unary(np.arcsin),
    "atan": _unary(np.arctan),
    "atanh": _unary(np.arctanh),
    "ceil": _unary(np.ceil),
    "cos": _unary(np.cos),
    "cosh": _unary(np.cosh),
    "erf": _unary(erf),
    "exp": _unary(np.exp),
    "exp2": _unary(np.exp2),
    "floor": _unary(np.floor),
    "round": _unary(np.rint),  # ties to even
    "sign": _unary(np.sign),
    "sin": _unary(np.sin),
    "sinh": _unary(np.sinh),
    "sqrt": _unary(np.sqrt),
    "square": _unary(np.square),
    "tan": _unary(np.tan),
    "tanh": _unary(np.tanh),
    "inverse": lambda inputs: np.float32(1) / (inputs["x"] + inputs.number("epsilon", 1e-4)),
    "log": lambda inputs: np.log(inputs["x"] + inputs.number("epsilon", 1e-45)),
    "rsqrt": lambda inputs: np.float32(1) / np.sqrt(inputs["x"] + inputs.number("epsilon", 1e-12)),
    "clip": _ab(np.clip),
    "threshold": lambda inputs: np.maximum(inputs["x"], inputs["alpha"]),
    # activations
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "leaky_relu": lambda inputs: np.where(inputs["x"] >= 0, inputs["x"], inputs["alpha"] * inputs["x"]),
    "thresholded_relu": lambda inputs: np.where(inputs["x"] >= inputs["alpha"], inputs["x"], np.float32(0)),
    "clamped_relu": _ab(lambda x, alpha, beta: np.minimum(beta, np.where(x >= 0, x, alpha * x))),
    "prelu": _prelu,
    "elu": _elu,
    "gelu": _gelu,
    "silu": _unary(lambda x: x * sigmoid(x)),
    "sigmoid": _unary(sigmoid),
    "sigmoid_hard": _ab(lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1)),
    "softplus": _unary(_softplus),
    "softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "linear_activation": _ab(lambda x, alpha, beta: alpha * x + beta),
    "scaled_tanh": _ab(lambda x, alpha, beta: alpha * np.tanh(beta * x)),
    # types
    "cast": _cast,
}
