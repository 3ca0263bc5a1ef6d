"""Logits in, ids out: the generator, the exponential, draws and refusals."""

import struct
from typing import Any

import numpy as np

from satchel.reference.golden import sampler_vectors
from satchel.reference.sampler import Sampler, Xoshiro256, exp_of_negatives


def bits(value: float) -> str:
    return struct.pack(">d", value).hex()


def sampler_content() -> dict[str, Any]:
    generators = []
    for seed in (0, 1, -1, 42, 2**63 - 1, -(2**63)):
        generator = Xoshiro256(seed)
        generators.append({"seed": seed, "words": [str(generator.next()) for _ in range(6)]})
    random_rows = np.random.default_rng(8)
    draws = sampler_vectors()
    for temperature in (0.1, 0.8, 1.0, 2.5):
        row = np.round(random_rows.standard_normal(80) * 6, 3).astype(np.float32)
        seed = int(random_rows.integers(-(2**63), 2**63 - 1))
        sampler = Sampler(temperature, seed)
        # float32 values as doubles: every reader gets back the very same numbers
        draws.append(
            {
                "logits": row.astype(np.float64).tolist(),
                "temperature": temperature,
                "seed": seed,
                "ids": [sampler.sample(row) for _ in range(24)],
            }
        )
    z = np.array(
        [0.0, -1e-300, -1e-9, -0.1, -0.34657359, -0.5, -1.0, -2.0, -10.5, -100.25, -700.0, -708.0, -708.0001, -1e9]
    )
    return {
        "draws": draws,
        "generator": generators,
        "exp": [
            [bits(value), bits(result)] for value, result in zip(z.tolist(), exp_of_negatives(z).tolist(), strict=True)
        ],
        "refused": [{"temperature": temperature, "seed": 0} for temperature in (-0.001, -1.0, 100.5, 1e300)],
    }


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""
    return {"sampler.json": sampler_content()}
