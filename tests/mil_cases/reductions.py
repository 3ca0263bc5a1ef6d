"""Cases of reductions and norms."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name

from mil_cases.case import Case, X, floats, ints, scalar, t, unary


def reduced(name: str, function: Callable[..., Tensor], x: np.ndarray = X) -> list[Case]:
    """Over two axes, kept; and over all."""
    some = {"axes": ints(0, -1), "keep_dims": np.bool_(True)}
    return [
        Case(name, {"x": x, **some}, function(t(x), (0, 2), True)),
        Case(name, {"x": x}, function(t(x), (0, 1, 2), False)),
    ]


GAMMA, BETA = floats(4), floats(4)

REDUCTIONS = [
    *reduced("reduce_l2_norm", lambda x, dim, keep: torch.linalg.vector_norm(x, 2, dim, keep)),
    *reduced("reduce_max", torch.amax),
    *reduced("reduce_mean", torch.mean),
    unary("softmax", lambda x: x.softmax(-1), 40 * X),
    unary("softmax", lambda x: x.softmax(1), axis=np.int32(1)),
    unary(
        "layer_norm",
        lambda x: F.layer_norm(x, (4,), t(GAMMA), t(BETA), 0.01),
        axes=ints(-1),
        gamma=GAMMA,
        beta=BETA,
        epsilon=scalar(0.01),
    ),
    unary("layer_norm", lambda x: F.layer_norm(x, (3, 4)), axes=ints(1, 2)),
]
