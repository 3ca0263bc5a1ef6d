"""Cases of convolution, pooling and resizing."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name

from mil_cases.case import IMAGE, WIDE, Case, X, floats, ints, moved, scalar, t


def conv(x: np.ndarray, weight: np.ndarray, bias: bool = True, padding: Any = None, **options: Any) -> Case:
    """options: strides, dilations, groups. padding: custom, symmetric."""
    spatial = x.ndim - 2
    functions = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
    offsets = floats(weight.shape[0]) if bias else None
    expected = functions[spatial](
        t(x), t(weight), None if offsets is None else t(offsets), options.get("strides", 1), padding or 0,
        options.get("dilations", 1), options.get("groups", 1),
    )  # fmt: skip
    inputs = _convolution(x, weight, offsets, options)
    if padding:
        inputs |= {"pad_type": "=custom", "pad": np.repeat(ints(*padding), 2)}
    return Case("conv", inputs, expected, tolerance=1e-5)


def transposed(x: np.ndarray, weight: np.ndarray, padding: list[int], extra: int = 0, **options: Any) -> Case:
    spatial = x.ndim - 2
    functions = {1: F.conv_transpose1d, 2: F.conv_transpose2d}
    offsets = floats(weight.shape[1] * options.get("groups", 1))
    expected = functions[spatial](
        t(x), t(weight), t(offsets), options.get("strides", 1), padding, extra, options.get("groups", 1),
        options.get("dilations", 1),
    )  # fmt: skip
    inputs = _convolution(x, weight, offsets, options) | {"pad_type": "=custom", "pad": np.repeat(ints(*padding), 2)}
    if extra:
        inputs["output_shape"] = ints(*expected.shape)
    return Case("conv_transpose", inputs, expected, tolerance=1e-5)


def _convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, options: dict[str, Any]) -> dict[str, Any]:
    inputs: dict[str, Any] = {"x": x, "weight": weight}
    if bias is not None:
        inputs["bias"] = bias
    for name, value in options.items():
        inputs[name] = np.int32(value) if name == "groups" else ints(*value)
    return inputs


def pool(name: str, expected: Tensor, x: np.ndarray = IMAGE, **more: Any) -> Case:
    return Case(name, {"x": x, "pad_type": "=valid", **more}, expected)


SAME = F.conv2d(F.pad(t(IMAGE), (0, 1, 1, 1)), torch.ones(2, 4, 3, 3), stride=2)
CUSTOM = {"pad_type": "=custom", "pad": ints(1, 1, 1, 1)}
THREE = {"kernel_sizes": ints(3, 3), "strides": ints(2, 2)}

CONVOLUTION = [
    conv(IMAGE, floats(6, 4, 3, 2)),
    conv(IMAGE, floats(6, 4, 3, 3), bias=False, padding=[1, 2], strides=[2, 1], dilations=[1, 2]),
    conv(IMAGE, floats(6, 2, 3, 3), groups=2),
    conv(IMAGE, floats(8, 1, 3, 3), groups=4, padding=[1, 1]),
    conv(floats(2, 3, 9), floats(4, 3, 4), strides=[3]),
    conv(floats(1, 2, 4, 5, 6), floats(3, 2, 2, 3, 2), padding=[1, 0, 1]),
    Case(
        "conv",
        {"x": IMAGE, "weight": np.ones((2, 4, 3, 3), np.float32), "strides": ints(2, 2), "pad_type": "=same"},
        SAME,
        tolerance=1e-5,
    ),
    Case(
        "conv",
        {"x": IMAGE, "weight": np.ones((2, 4, 3, 3), np.float32), "strides": ints(2, 2), "pad_type": "=same_lower"},
        F.conv2d(F.pad(t(IMAGE), (1, 0, 1, 1)), torch.ones(2, 4, 3, 3), stride=2),
        tolerance=1e-5,
    ),
    transposed(IMAGE, floats(4, 3, 3, 2), [0, 0], strides=[2, 3]),
    transposed(IMAGE, floats(4, 3, 3, 3), [1, 1], extra=1, strides=[2, 2], groups=2),
    transposed(floats(1, 3, 5), floats(3, 2, 4), [1], strides=[2], dilations=[2]),
    Case(
        "conv_transpose",
        {"x": IMAGE, "weight": np.ones((4, 1, 4, 4), np.float32), "strides": ints(2, 2), "pad_type": "=same"},
        F.conv_transpose2d(t(IMAGE), torch.ones(4, 1, 4, 4), stride=2, padding=1),
        tolerance=1e-5,
    ),
    pool("max_pool", F.max_pool2d(t(IMAGE), 3, 2), **THREE),
    pool("max_pool", F.max_pool2d(t(IMAGE), 3, 2, 1, ceil_mode=True), **THREE, **CUSTOM, ceil_mode=np.bool_(True)),
    pool("max_pool", F.max_pool1d(t(X), 2, 1), X, kernel_sizes=ints(2)),
    pool("avg_pool", F.avg_pool2d(t(IMAGE), 3, 2), **THREE),
    pool("avg_pool", F.avg_pool2d(t(IMAGE), 3, 2, 1), **THREE, **CUSTOM),
    pool(
        "avg_pool",
        F.avg_pool2d(t(IMAGE), 3, 2, 1, count_include_pad=False),
        **THREE,
        **CUSTOM,
        exclude_padding_from_average=np.bool_(True),
    ),
    pool("avg_pool", F.avg_pool2d(t(WIDE), 3, 2, 1, ceil_mode=True), WIDE, **THREE, **CUSTOM, ceil_mode=np.bool_(True)),
    *(
        moved(
            "upsample_bilinear",
            F.interpolate(t(IMAGE), scale_factor=(2.0, 1.5), mode="bilinear", align_corners=corners),
            IMAGE,
            scale_factor_height=scalar(2),
            scale_factor_width=scalar(1.5),
            align_corners=np.bool_(corners),
        )
        for corners in (False, True)
    ),
]
