"""Cases of reductions and norms."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name

from mil_cases.case import IMAGE, POSITIVE, Case, X, floats, ints, scalar, t, unary, unit


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
