"""Cases of the element-wise operations."""

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  its usual name

from mil_cases.case import DIVISORS, NUMBERS, POSITIVE, Case, X, Y, binary, floats, scalar, t, unary

TRUTH = NUMBERS > 0


ELEMENTWISE = [
    binary("add", torch.add),
    binary("add", torch.add, X, floats(3, 1)),
    binary("add", torch.add, NUMBERS, DIVISORS),
    binary("sub", torch.sub),
    binary("mul", torch.mul),
    binary("real_div", torch.div, X, POSITIVE),
    binary("pow", torch.pow, POSITIVE, Y),
    binary("maximum", torch.maximum),
    binary("greater_equal", torch.ge, NUMBERS, NUMBERS.clip(-3, 3)),
    binary("less", torch.lt),
    Case(
        "select",
        {"cond": TRUTH, "a": X[0, :, :], "b": Y[0, :, :]},
        torch.where(t(TRUTH), t(X[0]), t(Y[0])),
        given=("a", "b"),
    ),
    unary("abs", torch.abs),
    unary("erf", torch.erf, np.linspace(-4, 4, 999, dtype=np.float32)),
    unary("sqrt", torch.sqrt, POSITIVE),
    unary("tanh", torch.tanh),
    unary("rsqrt", torch.rsqrt, POSITIVE),
    unary("rsqrt", lambda x: torch.rsqrt(x + 0.25), POSITIVE, epsilon=scalar(0.25)),
    unary("clip", lambda x: x.clamp(-0.5, 0.25), alpha=scalar(-0.5), beta=scalar(0.25)),
    unary("relu", F.relu),
    unary("leaky_relu", lambda x: F.leaky_relu(x, 0.2), alpha=scalar(0.2)),
    unary("thresholded_relu", lambda x: F.threshold(x, 0.3, 0), alpha=scalar(0.3)),
    unary("gelu", F.gelu),
    unary("gelu", lambda x: F.gelu(x, approximate="tanh"), mode="=TANH_APPROXIMATION"),
    unary("gelu", lambda x: x * torch.sigmoid(1.702 * x), mode="=SIGMOID_APPROXIMATION"),
    unary("silu", F.silu, 30 * X),
    unary("sigmoid", torch.sigmoid, 30 * X),
    unary("sigmoid_hard", lambda x: (0.2 * x + 0.5).clamp(0, 1), 5 * X, alpha=scalar(0.2), beta=scalar(0.5)),
    unary("softplus", F.softplus, 30 * X),
    unary("cast", lambda x: x.int(), 3 * X, dtype="=int32"),
    unary("cast", lambda x: x.float(), NUMBERS, dtype="=fp32"),
    unary("cast", lambda x: x.bool(), NUMBERS, dtype="=bool"),
]
