"""Logits in, ids out: the generator, the exponential, draws with every option, and rows that nothing is drawn from."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from satchel.errors import LogitsError
from satchel.reference.sampler import Sampler, SamplingOptions, Xoshiro256, exp_of_negatives

SMALL = (0.5, 2.0, 2.0, -1.0)
RISING = (0.0, 1.0, 2.0, 3.0, 4.0)
EQUAL = (1.0,) * 6
SIGNS = (1.5, -1.5, 1.25, -0.25, 0.0, 1.0)
GAPS = (-math.inf, 3.0, -math.inf, 3.0, 2.0)


def bits(value: float) -> str:
    return struct.pack(">d", value).hex()


def number(value: float) -> float | str:
    """JSON has no infinity and no NaN."""
    return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


def row(seed: int, size: int = 60, spread: float = 4.0) -> tuple[float, ...]:
    """Logits that are exact in float32, so that every reader gets back the very same numbers."""
    values = np.round(np.random.default_rng(seed).standard_normal(size) * spread, 3).astype(np.float32)
    return tuple(values.astype(np.float64).tolist())


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the reference from a case's options."""
    arguments = dict(options)
    if "logit_bias" in arguments:
        arguments["logit_bias"] = {int(token): float(bias) for token, bias in arguments["logit_bias"].items()}
    return arguments


DRAWS: tuple[tuple[Sequence[float], dict[str, Any], Sequence[int]], ...] = (
    # logits, options, prompt
    (SMALL, {}, ()),
    (SMALL, {"seed": 9}, ()),
    ((0.0, 0.0, 0.0, 0.0), {"temperature": 1.0, "seed": 0}, ()),
    (RISING, {"temperature": 0.75, "seed": 1}, ()),
    ((-2.5, 0.125, 7.0, 6.875, 6.75, -100.0), {"temperature": 1.5, "seed": -1}, ()),
    ((1000.0, 999.5, 999.0, -1000.0), {"temperature": 0.5, "seed": 2**63 - 1}, ()),
    ((3.0, -1.0, 0.25, 0.5), {"temperature": 100.0, "seed": -(2**63)}, ()),
    ((1.0, 1.0000001192092896), {"temperature": 1e-9, "seed": 7}, ()),
    ((1.0, 1.0000001192092896), {"temperature": 5e-324, "seed": 7}, ()),
    ((3.4028234663852886e38, -3.4028234663852886e38), {"temperature": 1.0, "seed": 7}, ()),
    ((2.0,), {"temperature": 1.0, "seed": 3}, ()),
    (GAPS, {"temperature": 1.0, "seed": 4}, ()),
    (row(10), {"temperature": 0.1, "seed": 4419381416791316203}, ()),
    (row(11), {"temperature": 0.8, "seed": -6443737026091339169}, ()),
    (row(12), {"temperature": 1.0, "seed": 8182112258430597131}, ()),
    (row(13), {"temperature": 2.5, "seed": -1367645931892287032}, ()),
    # top-k: ties at the border go to the lowest ids
    (EQUAL, {"temperature": 1.0, "top_k": 1, "seed": 1}, ()),
    (EQUAL, {"temperature": 1.0, "top_k": 2, "seed": 1}, ()),
    (EQUAL, {"temperature": 1.0, "top_k": 5, "seed": 1}, ()),
    (EQUAL, {"temperature": 1.0, "top_k": 6, "seed": 1}, ()),
    (EQUAL, {"temperature": 1.0, "top_k": 1000, "seed": 1}, ()),
    (SMALL, {"temperature": 5.0, "top_k": 1, "seed": 2}, ()),
    (SMALL, {"temperature": 5.0, "top_k": 2, "seed": 2}, ()),
    (SMALL, {"temperature": 5.0, "top_k": 3, "seed": 2}, ()),
    (GAPS, {"temperature": 1.0, "top_k": 4, "seed": 2}, ()),
    (GAPS, {"temperature": 1.0, "top_k": 1, "seed": 2}, ()),
    (row(20), {"temperature": 3.0, "top_k": 7, "seed": 20}, ()),
    (row(21), {"temperature": 1.0, "top_k": 40, "seed": 21}, ()),
    (SMALL, {"temperature": 0.0, "top_k": 3, "seed": 2}, ()),
    # top-p: the token that reaches the share is kept
    (EQUAL, {"temperature": 1.0, "top_p": 1e-9, "seed": 5}, ()),
    (EQUAL, {"temperature": 1.0, "top_p": 0.5, "seed": 5}, ()),
    (EQUAL, {"temperature": 1.0, "top_p": 0.5000001, "seed": 5}, ()),
    (EQUAL, {"temperature": 1.0, "top_p": 0.9999999999999999, "seed": 5}, ()),
    (EQUAL, {"temperature": 1.0, "top_p": 1.0, "seed": 5}, ()),
    (RISING, {"temperature": 1.0, "top_p": 0.6, "seed": 5}, ()),
    (RISING, {"temperature": 1.0, "top_p": 0.9, "seed": 5}, ()),
    (GAPS, {"temperature": 1.0, "top_p": 0.99, "seed": 6}, ()),
    (row(30), {"temperature": 2.0, "top_p": 0.9, "seed": 30}, ()),
    (row(31), {"temperature": 0.7, "top_p": 0.95, "seed": 31}, ()),
    (row(32, 300, 1.0), {"temperature": 1.0, "top_p": 0.5, "seed": 32}, ()),
    # min-p: relative to the likeliest
    (EQUAL, {"temperature": 1.0, "min_p": 1.0, "seed": 7}, ()),
    (RISING, {"temperature": 1.0, "min_p": 1.0, "seed": 7}, ()),
    (RISING, {"temperature": 1.0, "min_p": 0.1, "seed": 7}, ()),
    (RISING, {"temperature": 1.0, "min_p": 0.0, "seed": 7}, ()),
    (RISING, {"temperature": 4.0, "min_p": 0.5, "seed": 7}, ()),
    (row(40), {"temperature": 2.0, "min_p": 0.05, "seed": 40}, ()),
    # all three: top-k, then top-p of what is left, then min-p
    (row(41), {"temperature": 3.0, "top_k": 20, "top_p": 0.9, "seed": 41}, ()),
    (row(42), {"temperature": 3.0, "top_k": 20, "top_p": 0.9, "min_p": 0.2, "seed": 42}, ()),
    (row(43), {"temperature": 5.0, "top_k": 2, "top_p": 0.5, "seed": 43}, ()),
    (EQUAL, {"temperature": 1.0, "top_k": 4, "top_p": 0.75, "seed": 44}, ()),
    (row(44, 300), {"temperature": 1.0, "top_k": 250, "top_p": 0.99, "min_p": 0.001, "seed": -44}, ()),
    # penalties: of the prompt's ids too, of the answer's only
    (SIGNS, {"repetition_penalty": 1.3}, ()),
    (SIGNS, {"repetition_penalty": 1.3}, (0, 1, 2)),
    (SIGNS, {"repetition_penalty": 0.5}, (5,)),
    (SIGNS, {"repetition_penalty": 10.0}, (0, 0, 0)),
    ((-1.0, -2.0, -3.0), {"repetition_penalty": 2.0}, ()),
    (SIGNS, {"repetition_penalty": 1.1, "temperature": 1.0, "seed": 8}, (3, 4)),
    (SIGNS, {"presence_penalty": 0.3}, (0,)),
    (SIGNS, {"presence_penalty": -0.5}, ()),
    (SIGNS, {"presence_penalty": 2.0, "temperature": 0.8, "seed": 8}, ()),
    (SIGNS, {"frequency_penalty": 0.2}, (0, 0)),
    (SIGNS, {"frequency_penalty": -0.1}, ()),
    (SIGNS, {"frequency_penalty": 2.0, "temperature": 0.8, "seed": 8}, ()),
    (SIGNS, {"repetition_penalty": 1.2, "presence_penalty": 0.1, "frequency_penalty": 0.1}, (2,)),
    (GAPS, {"repetition_penalty": 1.5, "presence_penalty": 1.0}, (0, 1)),
    (
        row(50),
        {
            "temperature": 0.9,
            "top_k": 30,
            "top_p": 0.95,
            "min_p": 0.01,
            "repetition_penalty": 1.15,
            "presence_penalty": 0.4,
            "frequency_penalty": 0.3,
            "logit_bias": {"3": 4.0, "17": -100.0, "40": "-Infinity"},
            "seed": 50,
        },
        (1, 2, 3, 3, 59),
    ),
    # biases
    (SMALL, {"logit_bias": {"3": 100.0}}, ()),
    (SMALL, {"logit_bias": {"1": "-Infinity"}}, ()),
    (SMALL, {"logit_bias": {"1": -1e-9}}, ()),
    (SMALL, {"logit_bias": {"0": 1.5}}, ()),
    (SMALL, {"logit_bias": {"0": 1.5, "2": 0.25}, "temperature": 1.0, "seed": 11}, ()),
    (SMALL, {"logit_bias": {"0": "-Infinity", "1": "-Infinity", "3": "-Infinity"}, "temperature": 9.0, "seed": 1}, ()),
    (GAPS, {"logit_bias": {"0": 100.0}, "temperature": 1.0, "seed": 12}, ()),
    (SIGNS, {"logit_bias": {"3": 5.0}, "presence_penalty": 2.0, "frequency_penalty": 1.0}, ()),
)
DRAWS_EACH = 20

NONSENSE: tuple[tuple[Sequence[float], dict[str, Any]], ...] = (
    ((0.0, math.nan, 1.0), {}),
    ((0.0, math.nan, 1.0), {"temperature": 1.0}),
    ((math.nan,), {"temperature": 1.0, "top_k": 1}),
    ((0.0, 1.0, math.inf), {}),
    ((0.0, 1.0, math.inf), {"temperature": 1.0, "top_p": 0.5}),
    ((-math.inf, -math.inf), {}),
    ((-math.inf, -math.inf), {"temperature": 1.0}),
    ((0.0, 1.0), {"logit_bias": {"0": "-Infinity", "1": "-Infinity"}}),
    ((0.0, 1.0), {"logit_bias": {"0": "-Infinity", "1": "-Infinity"}, "temperature": 1.0}),
    ((0.0, -math.inf), {"logit_bias": {"0": "-Infinity", "1": 100.0}, "temperature": 1.0, "top_k": 1}),
)


def sampler_content() -> dict[str, Any]:
    generators = []
    for seed in (0, 1, -1, 42, 2**63 - 1, -(2**63)):
        generator = Xoshiro256(seed)
        generators.append({"seed": seed, "words": [str(generator.next()) for _ in range(6)]})
    draws: list[dict[str, Any]] = []
    for logits, options, prompt in DRAWS:
        sampler = Sampler(SamplingOptions(**options_of(options)), len(logits), prompt)
        values = np.array(logits, dtype=np.float32)
        draws.append(
            {
                "logits": [number(value) for value in logits],
                "options": options,
                "prompt": list(prompt),
                "ids": [sampler.sample(values) for _ in range(DRAWS_EACH)],
            }
        )
    for logits, options in NONSENSE:
        try:
            Sampler(SamplingOptions(**options_of(options)), len(logits)).sample(np.array(logits, dtype=np.float32))
        except LogitsError:
            continue
        raise AssertionError(f"{logits} with {options} should be refused")
    z = np.array(
        [0.0, -1e-300, -1e-9, -0.1, -0.34657359, -0.5, -1.0, -2.0, -10.5, -100.25, -700.0, -708.0, -708.0001, -1e9]
    )
    return {
        "draws": draws,
        "generator": generators,
        "exp": [
            [bits(value), bits(result)] for value, result in zip(z.tolist(), exp_of_negatives(z).tolist(), strict=True)
        ],
        "nonsense": [
            {"logits": [number(value) for value in logits], "options": options} for logits, options in NONSENSE
        ],
    }


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""
    return {"sampler.json": sampler_content()}
