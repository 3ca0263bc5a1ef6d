"""Every operation of the ML Program evaluator against PyTorch, each in a package of its own with float32 results."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name

from satchel.runtimes.mil.constants import CONSTANTS
from satchel.runtimes.mil.evaluator import OPERATIONS, Evaluator
from tiny_package import in_blob, op, pack_narrow, write_package

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


HALVES = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1.4, -1.6]], np.float32)
NUMBERS, DIVISORS = whole(20, 3, 4) - 10, whole(5, 3, 4) + 1
TRUTH, FALSITY = NUMBERS > 0, DIVISORS > 2


def logical(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> Case:
    return Case(name, {"x": TRUTH, "y": FALSITY}, function(t(TRUTH), t(FALSITY)), given=())


ELEMENTWISE = [
    binary("add", torch.add),
    binary("add", torch.add, X, floats(3, 1)),
    binary("add", torch.add, NUMBERS, DIVISORS),
    binary("sub", torch.sub),
    binary("mul", torch.mul),
    binary("real_div", torch.div, X, POSITIVE),
    binary("floor_div", lambda x, y: torch.div(x, y, rounding_mode="floor"), NUMBERS, DIVISORS),
    binary("floor_div", lambda x, y: torch.div(x, y, rounding_mode="floor"), X, POSITIVE),
    binary("mod", torch.remainder, NUMBERS, DIVISORS),
    binary("pow", torch.pow, POSITIVE, Y),
    binary("maximum", torch.maximum),
    binary("minimum", torch.minimum),
    binary("equal", torch.eq, NUMBERS, NUMBERS.clip(-3, 3)),
    binary("not_equal", torch.ne, NUMBERS, NUMBERS.clip(-3, 3)),
    binary("greater", torch.gt),
    binary("greater_equal", torch.ge, NUMBERS, NUMBERS.clip(-3, 3)),
    binary("less", torch.lt),
    binary("less_equal", torch.le, NUMBERS, NUMBERS.clip(-3, 3)),
    logical("logical_and", torch.logical_and),
    logical("logical_or", torch.logical_or),
    logical("logical_xor", torch.logical_xor),
    Case("logical_not", {"x": TRUTH}, ~t(TRUTH), given=()),
    Case(
        "select",
        {"cond": TRUTH, "a": X[0, :, :], "b": Y[0, :, :]},
        torch.where(t(TRUTH), t(X[0]), t(Y[0])),
        given=("a", "b"),
    ),
    unary("abs", torch.abs),
    unary("acos", torch.acos, POSITIVE),
    unary("asin", torch.asin, POSITIVE),
    unary("atan", torch.atan),
    unary("atanh", torch.atanh, POSITIVE),
    unary("ceil", torch.ceil),
    unary("cos", torch.cos),
    unary("cosh", torch.cosh),
    unary("erf", torch.erf, np.linspace(-4, 4, 999, dtype=np.float32)),
    unary("exp", torch.exp),
    unary("exp2", torch.exp2),
    unary("floor", torch.floor),
    unary("round", torch.round, HALVES),
    unary("sign", torch.sign, HALVES),
    unary("sin", torch.sin),
    unary("sinh", torch.sinh),
    unary("sqrt", torch.sqrt, POSITIVE),
    unary("square", torch.square),
    unary("tan", torch.tan, POSITIVE),
    unary("tanh", torch.tanh),
    unary("inverse", torch.reciprocal, POSITIVE, epsilon=scalar(0)),
    unary("inverse", lambda x: 1 / (x + 1e-4), POSITIVE),
    unary("log", torch.log, POSITIVE),
    unary("log", lambda x: torch.log(x + 0.5), POSITIVE, epsilon=scalar(0.5)),
    unary("rsqrt", torch.rsqrt, POSITIVE),
    unary("rsqrt", lambda x: torch.rsqrt(x + 0.25), POSITIVE, epsilon=scalar(0.25)),
    unary("clip", lambda x: x.clamp(-0.5, 0.25), alpha=scalar(-0.5), beta=scalar(0.25)),
    unary("threshold", lambda x: x.clamp(min=0.3), alpha=scalar(0.3)),
    unary("relu", F.relu),
    unary("relu6", F.relu6, 10 * X),
    unary("leaky_relu", lambda x: F.leaky_relu(x, 0.2), alpha=scalar(0.2)),
    unary("thresholded_relu", lambda x: F.threshold(x, 0.3, 0), alpha=scalar(0.3)),
    unary("clamped_relu", lambda x: F.leaky_relu(x, 0.2).clamp(max=0.5), alpha=scalar(0.2), beta=scalar(0.5)),
    unary("prelu", lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3])), alpha=np.array([0.1, 0.2, 0.3], np.float32)),
    unary("elu", lambda x: F.elu(x, 0.7), alpha=scalar(0.7)),
    unary("gelu", F.gelu),
    unary("gelu", lambda x: F.gelu(x, approximate="tanh"), mode="=TANH_APPROXIMATION"),
    unary("gelu", lambda x: x * torch.sigmoid(1.702 * x), mode="=SIGMOID_APPROXIMATION"),
    unary("silu", F.silu, 30 * X),
    unary("sigmoid", torch.sigmoid, 30 * X),
    unary("sigmoid_hard", lambda x: (0.2 * x + 0.5).clamp(0, 1), 5 * X, alpha=scalar(0.2), beta=scalar(0.5)),
    unary("softplus", F.softplus, 30 * X),
    unary("softsign", F.softsign),
    unary("linear_activation", lambda x: 2 * x + 1, alpha=scalar(2), beta=scalar(1)),
    unary("scaled_tanh", lambda x: 2 * torch.tanh(0.5 * x), alpha=scalar(2), beta=scalar(0.5)),
    unary("cast", lambda x: x.int(), 3 * X, dtype="=int32"),
    unary("cast", lambda x: x.float(), NUMBERS, dtype="=fp32"),
    unary("cast", lambda x: x.bool(), NUMBERS, dtype="=bool"),
]

INDICES = np.argsort(floats(2, 3, 4), 1).astype(np.int32)
FLAT, DIGITS = ints(2, 0, -1), whole(5, 2, 3)
PLACES = ints(0, 2, 1, 1, 0, 3).reshape(3, 2)
BOUNDS = {"begin": ints(0, -3, 1), "end": ints(2, -1, 4)}


SCATTERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "max": torch.maximum,
    "min": torch.minimum,
    "update": lambda data, updates: updates,
}


def scattered(mode: str) -> Tensor:
    """The rows 2 and 0 of axis 1, updated with rows 0 and 1."""
    data, updates = t(X).clone(), t(Y)
    for row, update in ((2, 0), (0, 1)):
        data[:, row] = SCATTERS[mode](data[:, row], updates[:, update])
    return data


def moved(name: str, expected: Any, x: np.ndarray = X, **more: Any) -> Case:
    return Case(name, {"x": x, **more}, expected)


MOVEMENT = [
    moved("argsort", t(X).argsort(-1, descending=True).int()),
    moved("argsort", t(X).argsort(1).int(), axis=np.int32(1), ascending=np.bool_(True)),
    moved("band_part", t(X).tril(1).triu(-1), lower=np.int32(1), upper=np.int32(1)),
    moved("band_part", t(X).tril(0), lower=np.int32(-1), upper=np.int32(0)),
    Case("concat", {"values": [X, Y], "axis": np.int32(1)}, torch.cat([t(X), t(Y)], 1), given=()),
    Case(
        "concat",
        {"values": [X, Y], "axis": np.int32(-1), "interleave": np.bool_(True)},
        torch.stack([t(X), t(Y)], -1).reshape(2, 3, 8),
        given=(),
    ),
    Case("concat", {"values": [ints(3, 4), np.int32(5)], "axis": np.int32(0)}, torch.tensor([3, 4, 5]), given=()),
    moved("expand_dims", t(X)[:, None, :, :, None], axes=ints(1, -1)),
    Case("fill", {"shape": ints(2, 3), "value": scalar(1.5)}, torch.full((2, 3), 1.5), given=()),
    moved("flatten2d", t(X).reshape(2, 12)),
    moved("flatten2d", t(X).reshape(6, 4), axis=np.int32(2)),
    moved("gather", t(X)[:, FLAT.tolist()], indices=FLAT, axis=np.int32(1)),
    moved("gather", t(X)[:, :, PLACES.tolist()], indices=PLACES, axis=np.int32(-1)),
    moved("gather", t(X)[:, 2], indices=np.int32(2), axis=np.int32(1)),
    moved(
        "gather",
        torch.stack([t(X)[0, [2, 1]], t(X)[1, [0, 0]]]),
        indices=ints(2, 1, 0, 0).reshape(2, 2),
        axis=np.int32(1),
        batch_dims=np.int32(1),
    ),
    moved("gather_along_axis", t(X).gather(1, t(INDICES).long()), indices=INDICES, axis=np.int32(1)),
    moved("gather_nd", t(X)[[0, 1, 0], [2, 1, 1]], indices=np.stack([ints(0, 1, 0), ints(2, 1, 1)], -1)),
    moved("identity", t(X)),
    moved("non_zero", t(NUMBERS).nonzero().int(), NUMBERS),
    Case(
        "one_hot",
        {"indices": DIGITS, "one_hot_vector_size": np.int32(5)},
        F.one_hot(t(DIGITS).long(), 5).int(),
        given=("indices",),
    ),
    Case(
        "one_hot",
        {
            "indices": ints(1, 0),
            "one_hot_vector_size": np.int32(3),
            "axis": np.int32(0),
            "on_value": scalar(2),
            "off_value": scalar(-1),
        },
        torch.tensor([[-1, 2.0], [2, -1], [-1, -1]]),
        given=("indices",),
    ),
    moved("pad", F.pad(t(X), (1, 2, 0, 1), value=0.5), pad=ints(0, 1, 1, 2), constant_val=scalar(0.5)),
    moved("pad", F.pad(t(X), (2, 1), mode="reflect"), pad=ints(2, 1), mode="=reflect"),
    moved("pad", F.pad(t(X), (2, 1), mode="replicate"), pad=ints(0, 0, 0, 0, 2, 1), mode="=replicate"),
    moved("pixel_shuffle", F.pixel_shuffle(t(IMAGE), 2), IMAGE, upscale_factor=np.int32(2)),
    Case(
        "range_1d",
        {"start": np.int32(2), "end": np.int32(9), "step": np.int32(3)},
        torch.arange(2, 9, 3).int(),
        given=(),
    ),
    Case("range_1d", {"start": scalar(0), "end": scalar(1), "step": scalar(0.25)}, torch.arange(0, 1, 0.25), given=()),
    moved("reshape", t(X).reshape(2, 2, 6), shape=ints(0, 2, -1)),
    moved("reverse", t(X).flip(0, 2), axes=ints(0, -1)),
    moved("reverse", t(X).flip(0, 1, 2)),
    moved("shape", torch.tensor([2, 3, 4]).int()),
    moved("slice_by_index", t(X)[0:2, -3:-1, 1:4], **BOUNDS),
    moved(
        "slice_by_index",
        t(X)[:, 1:, ::2],
        begin=ints(0, 1, 0),
        end=ints(0, 0, 4),
        stride=ints(1, 1, 2),
        begin_mask=np.array([True, False, False]),
        end_mask=np.array([True, True, False]),
    ),
    moved(
        "slice_by_index",
        t(X)[1, :, 2],
        begin=ints(-1, 0, 2),
        end=ints(0, 3, 3),
        squeeze_mask=np.array([True, False, True]),
    ),
    moved("slice_by_index", t(X).flip(2)[:, :, :2], begin=ints(0, 0, -1), end=ints(2, 3, 1), stride=ints(1, 1, -1)),
    moved("slice_by_index", t(X).flip(2), begin=ints(0, 0, -1), end=ints(2, 3, -5), stride=ints(1, 1, -1)),
    moved("slice_by_size", t(X)[:, 1:3, 2:], begin=ints(0, 1, 2), size=ints(2, 2, -1)),
    Case(
        "slice_update",
        {"x": X, "update": Y[:, :2, :3], **BOUNDS},
        t(X).slice_scatter(t(X)[:, -3:-1].slice_scatter(t(Y)[:, :2, :3], 2, 1, 4), 1, 0, 2),
        given=("x", "update"),
    ),
    moved("split", t(X).split([1, 2], 1), split_sizes=ints(1, 2), axis=np.int32(1)),
    moved("split", t(X).chunk(2, -1), num_splits=np.int32(2), axis=np.int32(-1)),
    moved("squeeze", t(X)[:1].squeeze(0), X[:1], axes=ints(0)),
    moved("squeeze", t(X)[:1, :1].squeeze(), X[:1, :1]),
    Case("stack", {"values": [X, Y], "axis": np.int32(1)}, torch.stack([t(X), t(Y)], 1), given=()),
    moved("tile", t(X).repeat(1, 2, 3), reps=ints(1, 2, 3)),
    moved("topk", [v.int() if v.dtype == torch.int64 else v for v in t(X).topk(2)], k=np.int32(2)),
    moved(
        "topk",
        [v.int() if v.dtype == torch.int64 else v for v in t(X).topk(2, 1, largest=False)],
        k=np.int32(2),
        axis=np.int32(1),
        ascending=np.bool_(True),
    ),
    moved("transpose", t(X).permute(2, 0, 1), perm=ints(2, 0, -2)),
    *(
        Case(
            "scatter",
            {"data": X, "indices": ints(2, 0), "updates": Y[:, :2], "axis": np.int32(1), "mode": f"={mode}"},
            scattered(mode),
            given=("data", "updates"),
        )
        for mode in SCATTERS
    ),
    Case(
        "scatter_along_axis",
        {"data": X, "indices": INDICES[:, :2], "updates": Y[:, :2], "axis": np.int32(1), "mode": "=add"},
        t(X).scatter_add(1, t(INDICES[:, :2]).long(), t(Y[:, :2])),
        given=("data", "updates"),
    ),
    Case(
        "scatter_along_axis",
        {"data": X, "indices": INDICES, "updates": Y, "axis": np.int32(1), "mode": "=update"},
        t(X).scatter(1, t(INDICES).long(), t(Y)),
        given=("data", "updates"),
    ),
    Case(
        "scatter_nd",
        {"data": X, "indices": ints(0, 2, 1, 0).reshape(2, 2), "updates": Y[0, :2], "mode": "=update"},
        t(X).index_put((torch.tensor([0, 1]), torch.tensor([2, 0])), t(Y[0, :2])),
        given=("data", "updates"),
    ),
    Case(
        "scatter_nd",
        {"data": X, "indices": ints(1, 1).reshape(2, 1), "updates": Y, "mode": "=add"},
        t(X).index_put((torch.tensor([1, 1]),), t(Y), accumulate=True),
        given=("data", "updates"),
    ),
]


def reduced(name: str, function: Callable[..., Tensor], x: np.ndarray = X) -> list[Case]:
    """Over two axes, kept; and over all."""
    some = {"axes": ints(0, -1), "keep_dims": np.bool_(True)}
    return [
        Case(name, {"x": x, **some}, function(t(x), (0, 2), True)),
        Case(name, {"x": x}, function(t(x), (0, 1, 2), False)),
    ]


GAMMA, BETA = floats(4), floats(4)
CHANNELS = {"gamma": floats(4), "beta": floats(4)}
STATISTICS = {"mean": floats(4), "variance": unit(4)}

REDUCTIONS = [
    *reduced("reduce_l1_norm", lambda x, dim, keep: x.abs().sum(dim, keep)),
    *reduced("reduce_l2_norm", lambda x, dim, keep: torch.linalg.vector_norm(x, 2, dim, keep)),
    *reduced("reduce_log_sum", lambda x, dim, keep: x.sum(dim, keep).log(), POSITIVE),
    *reduced("reduce_log_sum_exp", torch.logsumexp, 50 * X),
    *reduced("reduce_max", torch.amax),
    *reduced("reduce_mean", torch.mean),
    *reduced("reduce_min", torch.amin),
    *reduced("reduce_prod", lambda x, dim, keep: x.prod(0, True).prod(2, True) if keep else x.prod()),
    *reduced("reduce_sum", torch.sum),
    *reduced("reduce_sum_square", lambda x, dim, keep: x.square().sum(dim, keep)),
    Case("reduce_argmax", {"x": X, "axis": np.int32(1)}, t(X).argmax(1).int()),
    Case("reduce_argmin", {"x": X, "keep_dims": np.bool_(True)}, t(X).argmin(-1, True).int()),
    unary("softmax", lambda x: x.softmax(-1), 40 * X),
    unary("softmax", lambda x: x.softmax(1), axis=np.int32(1)),
    unary("cumsum", lambda x: x.cumsum(0)),
    unary("cumsum", lambda x: x.flip(1).cumsum(1).flip(1), axis=np.int32(1), reverse=np.bool_(True)),
    unary("cumsum", lambda x: x.cumsum(2) - x, axis=np.int32(2), exclusive=np.bool_(True)),
    unary(
        "layer_norm",
        lambda x: F.layer_norm(x, (4,), t(GAMMA), t(BETA), 0.01),
        axes=ints(-1),
        gamma=GAMMA,
        beta=BETA,
        epsilon=scalar(0.01),
    ),
    unary("layer_norm", lambda x: F.layer_norm(x, (3, 4)), axes=ints(1, 2)),
    unary(
        "instance_norm",
        lambda x: F.instance_norm(x, weight=t(CHANNELS["gamma"]), bias=t(CHANNELS["beta"])),
        IMAGE,
        **CHANNELS,
    ),
    unary(
        "batch_norm",
        lambda x: F.batch_norm(x, *map(t, STATISTICS.values()), *map(t, CHANNELS.values()), eps=1e-3),
        IMAGE,
        **STATISTICS,
        **CHANNELS,
        epsilon=scalar(1e-3),
    ),
]

WEIGHT, BIAS = floats(5, 4), floats(5)
QUERY, KEY, VALUE = floats(1, 2, 3, 8), floats(1, 2, 6, 8), floats(1, 2, 6, 4)
MASK = np.where(np.tri(3, 6, 3) > 0, 0, -1e4).astype(np.float32)
ATTENTION = {"query": QUERY, "key": KEY, "value": VALUE}


def attended(mask: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(t(QUERY), t(KEY), t(VALUE), attn_mask=mask)


LINEAR = [
    unary("linear", lambda x: F.linear(x, t(WEIGHT), t(BIAS)), weight=WEIGHT, bias=BIAS),
    unary("linear", lambda x: F.linear(x, t(WEIGHT)), X[0, 0], weight=WEIGHT),
    binary("matmul", torch.matmul, X, floats(4, 5)),
    Case("matmul", {"x": X, "y": Y, "transpose_x": np.bool_(True)}, t(X).mT @ t(Y), given=("x", "y")),
    Case("matmul", {"x": X, "y": Y, "transpose_y": np.bool_(True)}, t(X) @ t(Y).mT, given=("x", "y")),
    Case("einsum", {"values": [X, Y], "equation": "=bij,bkj->bik"}, torch.einsum("bij,bkj->bik", t(X), t(Y)), given=()),
    Case("scaled_dot_product_attention", ATTENTION, attended(), given=tuple(ATTENTION)),
    Case("scaled_dot_product_attention", {**ATTENTION, "attn_mask": MASK}, attended(t(MASK)), given=tuple(ATTENTION)),
    Case(
        "scaled_dot_product_attention",
        {**ATTENTION, "attn_mask": MASK == 0},
        attended(t(MASK) == 0),
        given=tuple(ATTENTION),
    ),
]


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
            "upsample_nearest_neighbor",
            F.interpolate(t(IMAGE), scale_factor=factor),
            IMAGE,
            scale_factor_height=scalar(factor[0]),
            scale_factor_width=scalar(factor[1]),
        )
        for factor in ((2.0, 3.0), (1.5, 1.0))
    ),
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


def _repeated(small: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    for axis, size in enumerate(shape):
        small = small.repeat(size // small.shape[axis], axis)
    return t(small.astype(np.float32))


CODES, UNSIGNED = random.integers(-8, 8, (4, 6)).astype(np.int8), random.integers(0, 16, (4, 6)).astype(np.uint8)
SCALES, OFFSETS = unit(4, 3), floats(4, 3)
TABLES, ENTRIES = floats(2, 1, 4, 1), random.integers(0, 4, (4, 6)).astype(np.uint8)
VECTORS = floats(1, 1, 4, 3)
KEPT = random.integers(0, 2, (4, 6)).astype(np.uint8)
SPARSE = np.zeros((4, 6), np.float32)
SPARSE[KEPT == 1] = VALUES = floats(int(KEPT.sum()))


def constant(name: str, expected: Tensor, **attributes: Any) -> Case:
    return Case(name, attributes, expected, given=())


def spread(codes: np.ndarray, offset: np.ndarray | float = 0.0) -> Tensor:
    offsets = _repeated(offset, (4, 6)) if isinstance(offset, np.ndarray) else offset
    return _repeated(SCALES, (4, 6)) * (t(codes).float() - offsets)


CONSTEXPR = [
    constant("constexpr_blockwise_shift_scale", spread(CODES), data=in_blob(CODES, "int4"), scale=in_blob(SCALES)),
    constant("constexpr_blockwise_shift_scale", spread(CODES), data=in_blob(CODES), scale=SCALES),
    constant(
        "constexpr_blockwise_shift_scale",
        spread(UNSIGNED, OFFSETS),
        data=in_blob(UNSIGNED, "uint4"),
        scale=in_blob(SCALES),
        offset=in_blob(OFFSETS),
    ),
    constant(
        "constexpr_blockwise_shift_scale",
        spread(UNSIGNED, UNSIGNED[:, :3]),
        data=in_blob(UNSIGNED, "uint4"),
        scale=in_blob(SCALES),
        offset=in_blob(UNSIGNED[:, :3], "uint4"),
    ),
    constant(
        "constexpr_affine_dequantize",
        (t(UNSIGNED).float() - 3) * 0.5,
        quantized_data=in_blob(UNSIGNED),
        scale=scalar(0.5),
        zero_point=np.uint8(3),
        axis=np.int32(0),
    ),
    constant(
        "constexpr_affine_dequantize",
        (t(CODES).float() - t(CODES[0]).float()) * t(BIAS[:1]),
        quantized_data=in_blob(CODES),
        scale=np.repeat(BIAS[:1], 6),
        zero_point=in_blob(CODES[0]),
        axis=np.int32(1),
    ),
    constant(
        "constexpr_cast",
        t(SCALES.astype(np.float16)).float(),
        source_val=in_blob(SCALES.astype(np.float16)),
        output_dtype="=fp32",
    ),
    constant(
        "constexpr_lut_to_dense",
        t(TABLES[np.arange(4)[:, None] // 2, 0, ENTRIES, 0]),
        indices=in_blob(ENTRIES, "uint2"),
        lut=in_blob(TABLES),
    ),
    constant(
        "constexpr_lut_to_dense",
        t(VECTORS[0, 0][ENTRIES]).permute(0, 2, 1).reshape(12, 6),
        indices=in_blob(ENTRIES, "uint2"),
        lut=in_blob(VECTORS),
        vector_axis=np.int32(0),
    ),
    constant(
        "constexpr_lut_to_dense",
        t(VECTORS[0, 0][ENTRIES]).reshape(4, 18),
        indices=in_blob(ENTRIES, "uint2"),
        lut=in_blob(VECTORS),
        vector_axis=np.int32(1),
    ),
    constant(
        "constexpr_lut_to_dense",
        t(VECTORS.reshape(-1)[:4][ENTRIES]),
        indices=in_blob(np.frombuffer(pack_narrow(ENTRIES, 2), np.uint8)),
        lut=in_blob(VECTORS.reshape(-1)[:4].copy()),
        shape=np.array([4, 6], np.uint32),
    ),
    constant("constexpr_sparse_to_dense", t(SPARSE), nonzero_data=in_blob(VALUES), mask=in_blob(KEPT, "uint1")),
    constant(
        "constexpr_sparse_to_dense",
        t(SPARSE),
        nonzero_data=in_blob(VALUES),
        mask=in_blob(np.frombuffer(pack_narrow(KEPT, 1), np.uint8)),
        shape=np.array([4, 6], np.uint32),
    ),
]

CASES = [*ELEMENTWISE, *MOVEMENT, *REDUCTIONS, *LINEAR, *CONVOLUTION, *CONSTEXPR]


def evaluate(case: Case, path: Path) -> list[np.ndarray]:
    """What the evaluator makes of a program of this one operation, declared as PyTorch's result is."""
    expected = case.expected if isinstance(case.expected, (list, tuple)) else [case.expected]
    dtypes = {torch.float32: "float32", torch.int32: "int32", torch.int64: "int32", torch.bool: "bool"}
    outputs = [(f"y{number}", dtypes[tensor.dtype], tensor.shape) for number, tensor in enumerate(expected)]
    inputs = {name: value for name, value in case.inputs.items() if name in case.given}
    arguments = {name: name if name in inputs else value for name, value in case.inputs.items()}
    package = write_package(
        path / "model.mlpackage",
        [op(case.operation, outputs, **arguments)],
        [name for name, *_ in outputs],
        inputs={name: (str(value.dtype), value.shape) for name, value in inputs.items()},
    )
    found = Evaluator(package).run(inputs)
    return [found[name] for name, *_ in outputs]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.operation}-{number}" for number, case in enumerate(CASES)])
def test_an_operation_gives_what_pytorch_gives(case: Case, tmp_path: Path) -> None:
    expected = case.expected if isinstance(case.expected, (list, tuple)) else [case.expected]
    for found, wanted in zip(evaluate(case, tmp_path), expected, strict=True):
        assert found.shape == tuple(wanted.shape)
        np.testing.assert_allclose(found, wanted.numpy(), rtol=case.tolerance, atol=case.tolerance)


def test_every_known_operation_is_compared() -> None:
    assert {case.operation for case in CASES} == {*OPERATIONS, *CONSTANTS}
