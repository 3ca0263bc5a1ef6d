"""Operations that move values and compute none: shapes, slices, gathers, concatenation. Nothing is rounded."""

from collections.abc import Sequence

import numpy as np

from satchel.runtimes.mil.values import Array, Function, Inputs

# --- shape ----------------------------------------------------------------------------------------------------------


def _reshape(inputs: Inputs) -> Array:
    """A size of 0 keeps the input's, -1 is what is left."""
    x: Array = inputs["x"]
    sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(inputs.integers("shape"))]
    return np.reshape(x, sizes)


def _squeeze(inputs: Inputs) -> Array:
    return np.squeeze(inputs["x"], tuple(inputs.integers("axes")) if "axes" in inputs else None)


def _shape(inputs: Inputs) -> Array:
    return np.array(inputs["x"].shape, np.int32)


# --- slices ---------------------------------------------------------------------------------------------------------


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


def _slice_update(inputs: Inputs) -> Array:
    """A copy, or `x` itself where nobody sees its old values any more (see `liveness`)."""
    x: Array = inputs["x"] if inputs.in_place else inputs["x"].copy()
    x[_index(inputs)] = inputs["update"]
    return x


# --- gather ---------------------------------------------------------------------------------------------------------


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


# --- putting together and taking apart ------------------------------------------------------------------------------


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


# --- making ---------------------------------------------------------------------------------------------------------


def _range_1d(inputs: Inputs) -> Array:
    first, last, step = (inputs[name].item() for name in ("start", "end", "step"))
    return np.arange(first, last, step)


MOVEMENT: dict[str, Function] = {
    "concat": _concat,
    "expand_dims": lambda inputs: np.expand_dims(inputs["x"], tuple(inputs.integers("axes"))),
    "gather": _gather,
    "pad": _pad,
    "range_1d": _range_1d,
    "reshape": _reshape,
    "shape": _shape,
    "slice_by_index": _slice_by_index,
    "slice_update": _slice_update,
    "split": _split,
    "squeeze": _squeeze,
    "tile": lambda inputs: np.tile(inputs["x"], inputs.integers("reps")),
    "transpose": lambda inputs: np.transpose(inputs["x"], inputs.integers("perm")),
}
