"""Products of matrices, and attention. Sums are float32; a device's own order of adding is not modelled."""

import numpy as np

from satchel.runtimes.mil.values import Array, Function, Inputs


def _linear(inputs: Inputs) -> Array:
    """x [..., in] · weight [out, in]ᵀ + bias [out]"""
    x, weight, bias = inputs["x"], inputs["weight"], inputs.get("bias")
    rows = x.reshape(-1, x.shape[-1]) @ weight.T  # two dimensions: one call of the fast kernel
    if bias is not None:
        rows += bias
    return np.asarray(rows).reshape((*x.shape[:-1], weight.shape[0]))


def _matmul(inputs: Inputs) -> Array:
    x, y = inputs["x"], inputs["y"]
    if inputs.flag("transpose_x"):
        x = x.swapaxes(-1, -2)
    if inputs.flag("transpose_y"):
        y = y.swapaxes(-1, -2)
    return np.asarray(np.matmul(x, y))


def _scaled_dot_product_attention(inputs: Inputs) -> Array:
    """query [..., l, e], key [..., s, e], value [..., s, v]; attn_mask is added, or says what may be seen.

    Scores, masked scores and probabilities are rounded as if each were a result of its own. All in one buffer: with a
    long context it is the largest there is.
    """
    query, key, value, mask = inputs["query"], inputs["key"], inputs["value"], inputs.get("attn_mask")
    scores: Array = (query * np.float32(query.shape[-1] ** -0.5)) @ key.swapaxes(-1, -2)
    inputs.round(scores)
    if mask is not None and mask.dtype == np.bool_:
        np.copyto(scores, -np.inf, where=~mask)
    elif mask is not None:
        scores += mask
        inputs.round(scores)
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    inputs.round(scores)
    return np.asarray(np.matmul(scores, value))


LINEAR: dict[str, Function] = {
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _scaled_dot_product_attention,
}
