"""Operations along axes: means, extremes, softmax, norms."""

from collections.abc import Callable
from typing import Any

import numpy as np

from satchel.runtimes.mil.values import Array, Function, Inputs


def _softmax(inputs: Inputs) -> Array:
    x, axis = inputs["x"], inputs.integer("axis", -1)
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


def _layer_norm(inputs: Inputs) -> Array:
    x = inputs["x"]
    axes = tuple(sorted(axis % x.ndim for axis in inputs.integers("axes", list(range(x.ndim)))))
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    centred = x - x.mean(axes, keepdims=True)
    variance = np.square(centred).mean(axes, keepdims=True)
    normed = np.asarray(centred / np.sqrt(variance + inputs.number("epsilon", 1e-5)))
    for name, function in (("gamma", np.multiply), ("beta", np.add)):
        if inputs.get(name) is not None:
            normed = function(normed, np.reshape(inputs[name], shape))
    return normed


REDUCTIONS: dict[str, Function] = {
    "reduce_l2_norm": _reduce(lambda x, axis, keepdims: np.sqrt(np.square(x).sum(axis, keepdims=keepdims))),
    "reduce_max": _reduce(np.max),
    "reduce_mean": _reduce(np.mean),
    "softmax": _softmax,
    "layer_norm": _layer_norm,
}
