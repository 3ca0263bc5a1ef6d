"""Operations that move values and compute none: shapes, slices, gathers, concatenation, sorting. Nothing is rounded."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from satchel.runtimes.mil.values import Array, Function, Inputs

_SCATTERS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


# --- shape --------------------------------------------------------------------------------------------------------


def _reshape(inputs: Inputs) -> Array:
    """A size of 0 keeps the input's, -1 is what is left."""
    x: Array = inputs["x"]
    sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(inputs.integers("shape"))]
    return np.reshape(x, sizes)


def _flatten2d(inputs: Inputs) -> Array:
    x, axis = inputs["x"], inputs.integer("axis", 1)
    return np.reshape(x, (int(np.prod(x.shape[:axis])), -1))


def _squeeze(inputs: Inputs) -> Array:
    return np.squeeze(inputs["x"], tuple(inputs.integers("axes")) if "axes" in inputs else None)


def _shape(inputs: Inputs) -> Array:
    return np.array(inputs["x"].shape, np.int32)


# --- slices -------------------------------------------------------------------------------------------------------


def _index(inputs: Inputs) -> tuple[slice | int, ...]:
    """The index that begin, end, stride and their masks mean for `x`."""
    shape = inputs["x"].shape
    nothing = [0] * len(shape)
    begin, end = inputs.integers("begin"), inputs.integers("end")
    stride = inputs.integers("stride", [1] * len(shape))
    from_first, to_last, single = (inputs.integers(f"{name}_mask", nothing) for name in ("begin", "end", "squeeze"))
    index: list[slice | int] = []
    for axis, size in enumerate(shape):
        first, last = (where[axis] + size if where[axis] < 0 else where[axis] for where in (begin, end))
        if single[axis]:
            index.append(first)
        elif stride[axis] > 0:
            index.append(slice(None if from_first[axis] else first, None if to_last[axis] else last, stride[axis]))
        else:  # an end below the first element can't be written as a number
            stop = None if to_last[axis] or end[axis] < -size else last
            index.append(slice(None if from_first[axis] else first, stop, stride[axis]))
    return tuple(index)


def _slice_by_index(inputs: Inputs) -> Array:
    view: Array = inputs["x"][_index(inputs)]
    return view


def _slice_by_size(inputs: Inputs) -> Array:
    x, begin, sizes = inputs["x"], inputs.integers("begin"), inputs.integers("size")
    index = tuple(slice(first, None if size < 0 else first + size) for first, size in zip(begin, sizes, strict=True))
    view: Array = x[index]
    return view


def _slice_update(inputs: Inputs) -> Array:
    """A copy, or `x` itself where nobody sees its old values any more (see `liveness`)."""
    x: Array = inputs["x"] if inputs.in_place else inputs["x"].copy()
    x[_index(inputs)] = inputs["update"]
    return x


# --- gather and scatter -------------------------------------------------------------------------------------------


def _whole(indices: Array, size: int) -> Array:
    """Negative indices count from the end. Raises IndexError beyond either end."""
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise IndexError(f"index {indices.min()} or {indices.max()} of {size}")
    return np.where(indices < 0, indices + size, indices)


def _gather(inputs: Inputs) -> Array:
    x, indices = inputs["x"], np.asarray(inputs["indices"])
    batch_dims = inputs.integer("batch_dims", 0)
    axis = inputs.integer("axis", 0) % x.ndim
    indices = _whole(indices, x.shape[axis])
    if not batch_dims:
        return np.take(x, indices, axis)
    batch = x.shape[:batch_dims]
    rows, wanted = x.reshape(-1, *x.shape[batch_dims:]), indices.reshape(-1, *indices.shape[batch_dims:])
    taken = [np.take(row, want, axis - batch_dims) for row, want in zip(rows, wanted, strict=True)]
    return np.stack(taken).reshape(*batch, *taken[0].shape)


def _gather_along_axis(inputs: Inputs) -> Array:
    x, axis = inputs["x"], inputs.integer("axis", 0)
    return np.take_along_axis(x, _whole(inputs["indices"], x.shape[axis]), axis)


def _gather_nd(inputs: Inputs) -> Array:
    if inputs.integer("batch_dims", 0):
        raise ValueError("gather_nd with batch_dims")
    picked: Array = inputs["x"][tuple(np.moveaxis(inputs["indices"], -1, 0))]
    return picked


def _scatter_into(data: Array, index: Any, updates: Array, mode: str) -> Array:
    result = data.copy()
    if mode == "update":
        result[index] = updates
    else:
        _SCATTERS[mode].at(result, index, updates)
    return result


def _scatter(inputs: Inputs) -> Array:
    data, axis = inputs["data"], inputs.integer("axis", 0) % inputs["data"].ndim
    index = (*[slice(None)] * axis, _whole(inputs["indices"], data.shape[axis]))
    return _scatter_into(data, index, inputs["updates"], inputs.text("mode", "add"))


def _scatter_along_axis(inputs: Inputs) -> Array:
    data, axis = inputs["data"], inputs.integer("axis", 0) % inputs["data"].ndim
    indices = _whole(inputs["indices"], data.shape[axis])
    index: list[Array] = list(np.indices(indices.shape, sparse=True))
    index[axis] = indices
    return _scatter_into(data, tuple(index), inputs["updates"], inputs.text("mode", "add"))


def _scatter_nd(inputs: Inputs) -> Array:
    index = tuple(np.moveaxis(inputs["indices"], -1, 0))
    return _scatter_into(inputs["data"], index, inputs["updates"], inputs.text("mode", "add"))


# --- putting together and taking apart ----------------------------------------------------------------------------


def _concat(inputs: Inputs) -> Array:
    values, axis = [np.atleast_1d(value) for value in inputs.all("values")], inputs.integer("axis", 0)
    if not inputs.flag("interleave"):
        return np.concatenate(values, axis)
    axis %= values[0].ndim
    shape = list(values[0].shape)
    shape[axis] *= len(values)
    return np.stack(values, axis + 1).reshape(shape)


def _split(inputs: Inputs) -> tuple[Array, ...]:
    x, axis = inputs["x"], inputs.integer("axis", 0)
    if "split_sizes" in inputs:
        ends: Sequence[int] = np.cumsum(inputs.integers("split_sizes")).tolist()
        if ends[-1] != x.shape[axis]:
            raise ValueError(f"parts of {ends[-1]} in all from {x.shape[axis]}")
        return tuple(np.split(x, ends[:-1], axis))
    return tuple(np.split(x, inputs.integer("num_splits", 1), axis))


def _pad(inputs: Inputs) -> Array:
    """pad: (before, after) of the last dimensions."""
    x, amounts = inputs["x"], inputs.integers("pad")
    pairs = [(0, 0)] * (x.ndim - len(amounts) // 2) + list(zip(amounts[::2], amounts[1::2], strict=True))
    mode = inputs.text("mode", "constant")
    if mode == "constant":
        value = inputs.get("constant_val")
        return np.pad(x, pairs, constant_values=0 if value is None else value)
    return np.pad(x, pairs, mode={"reflect": "reflect", "replicate": "edge"}[mode])  # type: ignore[call-overload,no-any-return]


def _reverse(inputs: Inputs) -> Array:
    return np.flip(inputs["x"], tuple(inputs.integers("axes")) if "axes" in inputs else None)


def _pixel_shuffle(inputs: Inputs) -> Array:
    """[n, c * r * r, h, w] -> [n, c, h * r, w * r]"""
    x, factor = inputs["x"], inputs.integer("upscale_factor", 1)
    count, channels, height, width = x.shape
    parts = x.reshape(count, channels // factor**2, factor, factor, height, width)
    moved = parts.transpose(0, 1, 4, 2, 5, 3)
    return np.reshape(moved, (count, channels // factor**2, height * factor, width * factor))


# --- making and ordering ------------------------------------------------------------------------------------------


def _range_1d(inputs: Inputs) -> Array:
    first, last, step = (inputs[name].item() for name in ("start", "end", "step"))
    return np.arange(first, last, step)


def _fill(inputs: Inputs) -> Array:
    value = inputs.get("value")
    return np.full(inputs.integers("shape"), np.float32(0) if value is None else value)


def _one_hot(inputs: Inputs) -> Array:
    indices, size, axis = inputs["indices"], inputs.integer("one_hot_vector_size", 1), inputs.integer("axis", -1)
    on, off = inputs.get("on_value"), inputs.get("off_value")
    hot = np.expand_dims(indices, -1) == np.arange(size)
    return np.moveaxis(np.where(hot, 1 if on is None else on, 0 if off is None else off), -1, axis)


def _band_part(inputs: Inputs) -> Array:
    """Keeps `lower` diagonals below and `upper` above the main one; all of them for -1."""
    x, lower, upper = inputs["x"], inputs.integer("lower", -1), inputs.integer("upper", -1)
    below = np.arange(x.shape[-2])[:, None] - np.arange(x.shape[-1])
    kept = ((lower < 0) | (below <= lower)) & ((upper < 0) | (-below <= upper))
    return np.where(kept, x, np.zeros((), x.dtype))


def _order(x: Array, axis: int, ascending: bool) -> Array:
    """Indices that sort; equal values stay in order."""
    return np.argsort(x if ascending else -x, axis, kind="stable").astype(np.int32)


def _argsort(inputs: Inputs) -> Array:
    return _order(inputs["x"], inputs.integer("axis", -1), inputs.flag("ascending"))


def _topk(inputs: Inputs) -> tuple[Array, Array]:
    x, axis, count = inputs["x"], inputs.integer("axis", -1), inputs.integer("k", 1)
    order = _order(x, axis, inputs.flag("ascending"))
    best = order if count < 0 else np.take(order, np.arange(count), axis)
    return np.take_along_axis(x, best, axis), best


def _non_zero(inputs: Inputs) -> Array:
    return np.stack(np.nonzero(inputs["x"]), -1).astype(np.int32)


MOVEMENT: dict[str, Function] = {
    "argsort": _argsort,
    "band_part": _band_part,
    "concat": _concat,
    "expand_dims": lambda inputs: np.expand_dims(inputs["x"], tuple(inputs.integers("axes"))),
    "fill": _fill,
    "flatten2d": _flatten2d,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "identity": lambda inputs: inputs["x"],
    "non_zero": _non_zero,
    "one_hot": _one_hot,
    "pad": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "range_1d": _range_1d,
    "reshape": _reshape,
    "reverse": _reverse,
    "shape": _shape,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda inputs: np.stack(inputs.all("values"), inputs.integer("axis", 0)),
    "tile": lambda inputs: np.tile(inputs["x"], inputs.integers("reps")),
    "topk": _topk,
    "transpose": lambda inputs: np.transpose(inputs["x"], inputs.integers("perm")),
}

# These move values too, but also compute with them.
SCATTERS: dict[str, Function] = {
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
}
