"""Cases of linear, matrix product and attention."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name

from mil_cases.case import Case, X, Y, binary, floats, t, unary

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
    Case("scaled_dot_product_attention", ATTENTION, attended(), given=tuple(ATTENTION)),
    Case("scaled_dot_product_attention", {**ATTENTION, "attn_mask": MASK}, attended(t(MASK)), given=tuple(ATTENTION)),
    Case(
        "scaled_dot_product_attention",
        {**ATTENTION, "attn_mask": MASK == 0},
        attended(t(MASK) == 0),
        given=tuple(ATTENTION),
    ),
]
