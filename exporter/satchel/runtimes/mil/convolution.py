"""Convolutions, pools and upsampling over 1 to 3 spatial dimensions: x [n, channels, *spatial]."""

import itertools
import math
from typing import Any

import numpy as np

from satchel.runtimes.mil.values import Array, Function, Inputs

_Pads = list[tuple[int, int]]


def _windows(x: Array, kernel: list[int], strides: list[int], dilations: list[int]) -> Array:
    """[n, channels, *out, *kernel], a view."""
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    spatial = tuple(range(2, x.ndim))
    views = np.lib.stride_tricks.sliding_window_view(x, reach, spatial)
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    view: Array = views[(slice(None), slice(None), *steps)]
    return view


def _padding(inputs: Inputs, sizes: list[int], kernel: list[int], strides: list[int], dilations: list[int]) -> _Pads:
    """(before, after) of each spatial dimension, from pad_type and pad."""
    kind, amounts = inputs.text("pad_type", "valid"), inputs.integers("pad", [0, 0] * len(sizes))
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        return list(zip(amounts[::2], amounts[1::2], strict=True))
    pads = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        less, more = total // 2, total - total // 2
        pads.append({"same": (less, more), "same_lower": (more, less)}[kind])
    return pads


def _conv(inputs: Inputs) -> Array:
    """weight [out, in / groups, *kernel]"""
    x, weight, groups = inputs["x"], inputs["weight"], inputs.integer("groups", 1)
    spatial = x.ndim - 2
    kernel, ones = list(weight.shape[2:]), [1] * spatial
    strides, dilations = inputs.integers("strides", ones), inputs.integers("dilations", ones)
    pads = _padding(inputs, list(x.shape[2:]), kernel, strides, dilations)
    views = _windows(np.pad(x, [(0, 0), (0, 0), *pads]), kernel, strides, dilations)
    count, channels, *rest = views.shape
    out, per_group = rest[:spatial], channels // groups
    # [groups, n * out, in / groups * kernel] · [groups, in / groups * kernel, out channels / groups]
    columns = views.reshape(count, groups, per_group, math.prod(out), math.prod(kernel))
    columns = columns.transpose(1, 0, 3, 2, 4).reshape(groups, count * math.prod(out), -1)
    filters = weight.reshape(groups, weight.shape[0] // groups, -1).swapaxes(-1, -2)
    result = (columns @ filters).reshape(groups, count, *out, -1)
    result = np.moveaxis(np.moveaxis(result, -1, 1), 2, 0).reshape(count, weight.shape[0], *out)
    return _with_bias(result, inputs)


def _with_bias(x: Array, inputs: Inputs) -> Array:
    bias = inputs.get("bias")
    return x if bias is None else x + np.reshape(bias, (-1, *[1] * (x.ndim - 2)))


def _conv_transpose(inputs: Inputs) -> Array:
    """weight [in, out / groups, *kernel]; every input value is spread over the kernel's positions."""
    x, weight, groups = inputs["x"], inputs["weight"], inputs.integer("groups", 1)
    spatial = x.ndim - 2
    kernel, ones = list(weight.shape[2:]), [1] * spatial
    strides, dilations = inputs.integers("strides", ones), inputs.integers("dilations", ones)
    count, sizes = x.shape[0], list(x.shape[2:])
    filters = weight.reshape(groups, x.shape[1] // groups, weight.shape[1], *kernel)
    grouped = x.reshape(count, groups, x.shape[1] // groups, math.prod(sizes)).swapaxes(-1, -2)
    reach = [
        (size - 1) * stride + (width - 1) * dilation + 1
        for size, stride, width, dilation in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    wanted, before = _transposed_size(inputs, sizes, strides, reach)
    full = [max(there, start + size) for there, start, size in zip(reach, before, wanted, strict=True)]
    spread = np.zeros((count, groups * weight.shape[1], *full), np.float32)
    for position in itertools.product(*map(range, kernel)):
        at_position: Any = (..., *position)
        part = (grouped @ filters[at_position]).swapaxes(-1, -2)
        places = [
            slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride)
            for at, dilation, size, stride in zip(position, dilations, sizes, strides, strict=True)
        ]
        spread[(slice(None), slice(None), *places)] += part.reshape(count, -1, *sizes)
    kept = [slice(start, start + size) for start, size in zip(before, wanted, strict=True)]
    return _with_bias(spread[(slice(None), slice(None), *kept)], inputs)


def _transposed_size(
    inputs: Inputs, sizes: list[int], strides: list[int], reach: list[int]
) -> tuple[list[int], list[int]]:
    """(size of the result, how much is cut before it) of each spatial dimension."""
    kind, amounts = inputs.text("pad_type", "valid"), inputs.integers("pad", [0, 0] * len(sizes))
    if kind == "same":
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
        before = [max(there - size, 0) // 2 for there, size in zip(reach, wanted, strict=True)]
    else:
        pads = amounts if kind == "custom" else [0, 0] * len(sizes)
        before = pads[::2]
        wanted = [there - first - last for there, first, last in zip(reach, pads[::2], pads[1::2], strict=True)]
    if inputs.get("output_shape") is not None:
        wanted = inputs.integers("output_shape")[2:]
    return wanted, before


# --- pools --------------------------------------------------------------------------------------------------------


def _pooled(inputs: Inputs, outside: float) -> tuple[Array, tuple[int, ...], _Pads, _Pads]:
    """(windows [n, channels, *out, *kernel], axes of the kernel, padding, what ceil_mode adds after it)."""
    x, kernel = inputs["x"], inputs.integers("kernel_sizes")
    ones = [1] * len(kernel)
    strides = inputs.integers("strides", ones)
    sizes = list(x.shape[2:])
    pads = _padding(inputs, sizes, kernel, strides, ones)
    extra: _Pads = [(0, 0)] * len(kernel)
    if inputs.flag("ceil_mode"):
        for axis, (size, width, stride) in enumerate(zip(sizes, kernel, strides, strict=True)):
            before, after = pads[axis]
            steps = math.ceil((size + before + after - width) / stride)
            if steps * stride >= size + before:  # a window must not start in the padding after
                steps -= 1
            extra[axis] = (0, max(steps * stride + width - size - before - after, 0))
    padded = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=outside)
    padded = np.pad(padded, [(0, 0), (0, 0), *extra], constant_values=outside)
    views = _windows(padded, kernel, strides, ones)
    return views, tuple(range(2 + len(kernel), views.ndim)), pads, extra


def _max_pool(inputs: Inputs) -> Array:
    views, axes, *_ = _pooled(inputs, -np.inf)
    return np.asarray(views.max(axes))


def _avg_pool(inputs: Inputs) -> Array:
    views, axes, pads, extra = _pooled(inputs, 0)
    counted = 0 if inputs.flag("exclude_padding_from_average") else 1
    ones = np.ones((1, 1, *inputs["x"].shape[2:]), np.float32)
    ones = np.pad(ones, [(0, 0), (0, 0), *pads], constant_values=counted)
    ones = np.pad(ones, [(0, 0), (0, 0), *extra])
    kernel = inputs.integers("kernel_sizes")
    strides = inputs.integers("strides", [1] * len(kernel))
    members = _windows(ones, kernel, strides, [1] * len(kernel))
    return np.asarray(views.sum(axes) / members.sum(axes))


# --- upsampling ---------------------------------------------------------------------------------------------------


def _upsample_bilinear(inputs: Inputs) -> Array:
    x: Array = inputs["x"]
    corners = inputs.flag("align_corners", True)
    half_pixel = inputs.flag("half_pixel_centers", not corners)
    for axis, name in ((-2, "scale_factor_height"), (-1, "scale_factor_width")):
        size, factor = x.shape[axis], float(inputs.number(name, 1))
        target = math.floor(size * factor)
        steps = np.arange(target)
        if corners:
            where = steps * ((size - 1) / max(target - 1, 1))
        else:
            where = (steps + 0.5) * (size / target) - 0.5 if half_pixel else steps * (size / target)
        where = np.clip(where, 0, size - 1)
        low = np.floor(where).astype(np.int64)
        share = np.reshape((where - low).astype(np.float32), (-1, 1) if axis == -2 else (-1,))
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, size - 1), axis) * share
    return x


CONVOLUTION: dict[str, Function] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "upsample_bilinear": _upsample_bilinear,
}
