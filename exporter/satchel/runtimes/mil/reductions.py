"""Operations along axes: sums, extremes, softmax, cumulative sums, and the norms made of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from satchel.runtimes.mil.values import Array, Function, Inputs


def softmax(x: Array, axis: int = -1) -> Array:
    shifted: Array = x - x.max(axis, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis, keepdims=True)
    return shifted


def _reduce(function: Callable[..., Any]) -> Function:
    def reduced(inputs: Inputs) -> Array:
        x = inputs["x"]
        axes = tuple(inputs.integers("axes", list(range(x.ndim))))
        return np.asarray(function(x, axis=axes, keepdims=inputs.flag("keep_dims")))

    return reduced


def _argument(function: Callable[..., Any]) -> Function:
    def found(inputs: Inputs) -> Array:
        result = function(inputs["x"], axis=inputs.integer("axis", -1), keepdims=inputs.flag("keep_dims"))
        return np.asarray(result, np.int32)

    return found


def _log_sum_exp(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    largest = x.max(axis, keepdims=True)
    total: Array = np.log(np.exp(x - largest).sum(axis, keepdims=True)) + largest
    return total if keepdims else total.squeeze(axis)


def _cumsum(inputs: Inputs) -> Array:
    x, axis, backwards = inputs["x"], inputs.integer("axis", 0), inputs.flag("reverse")
    source = np.flip(x, axis) if backwards else x
    total = np.cumsum(source, axis, dtype=x.dtype)
    if inputs.flag("exclusive"):
        total = total - source
    return np.flip(total, axis) if backwards else total


# --- norms --------------------------------------------------------------------------------------------------------


def _normalized(x: Array, axes: tuple[int, ...], epsilon: np.float32) -> Array:
    centred = x - x.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt(np.square(centred).mean(axes, keepdims=True) + epsilon))


def _scaled(x: Array, inputs: Inputs, shape: list[int]) -> Array:
    for name, function in (("gamma", np.multiply), ("beta", np.add)):
        if inputs.get(name) is not None:
            x = function(x, np.reshape(inputs[name], shape))
    return x


def _layer_norm(inputs: Inputs) -> Array:
    x = inputs["x"]
    axes = sorted(axis % x.ndim for axis in inputs.integers("axes", list(range(x.ndim))))
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    return _scaled(_normalized(x, tuple(axes), inputs.number("epsilon", 1e-5)), inputs, shape)


def _instance_norm(inputs: Inputs) -> Array:
    x = inputs["x"]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    return _scaled(_normalized(x, tuple(range(2, x.ndim)), inputs.number("epsilon", 1e-5)), inputs, shape)


def _batch_norm(inputs: Inputs) -> Array:
    x = inputs["x"]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    mean, variance = np.reshape(inputs["mean"], shape), np.reshape(inputs["variance"], shape)
    return _scaled((x - mean) / np.sqrt(variance + inputs.number("epsilon", 1e-5)), inputs, shape)


REDUCTIONS: dict[str, Function] = {
    "reduce_argmax": _argument(np.argmax),
    "reduce_argmin": _argument(np.argmin),
    "reduce_l1_norm": _reduce(lambda x, axis, keepdims: np.abs(x).sum(axis, keepdims=keepdims)),
    "reduce_l2_norm": _reduce(lambda x, axis, keepdims: np.sqrt(np.square(x).sum(axis, keepdims=keepdims))),
    "reduce_log_sum": _reduce(lambda x, axis, keepdims: np.log(x.sum(axis, keepdims=keepdims))),
    "reduce_log_sum_exp": _reduce(_log_sum_exp),
    "reduce_max": _reduce(np.max),
    "reduce_mean": _reduce(np.mean),
    "reduce_min": _reduce(np.min),
    "reduce_prod": _reduce(np.prod),
    "reduce_sum": _reduce(np.sum),
    "reduce_sum_square": _reduce(lambda x, axis, keepdims: np.square(x).sum(axis, keepdims=keepdims)),
    "softmax": lambda inputs: softmax(inputs["x"], inputs.integer("axis", -1)),
    "cumsum": _cumsum,
    "layer_norm": _layer_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
}
