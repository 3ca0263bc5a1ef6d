"""Cases of the element-wise operations."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name

from mil_cases.case import DIVISORS, NUMBERS, POSITIVE, Case, X, Y, binary, floats, scalar, t, unary

HALVES = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1.4, -1.6]], np.float32)
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
