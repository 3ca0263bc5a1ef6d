"""The sampler against published vectors, a plain loop of its specification, and the distribution it stands for."""

import math

import numpy as np
import pytest

from satchel.errors import LogitsError, UsageError
from satchel.reference.sampler import Sampler, Xoshiro256, exp_of_negatives


def generator_with(words: list[int]) -> Xoshiro256:
    generator = Xoshiro256(0)
    generator._words = words
    return generator


def test_seeding_is_splitmix64() -> None:
    """The first outputs of SplitMix64 for seed 0, as published with the generator."""
    assert Xoshiro256(0)._words == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]


def test_generator_is_xoshiro256_starstar() -> None:
    """The first outputs for the state 1, 2, 3, 4, as other implementations test them."""
    generator = generator_with([1, 2, 3, 4])
    assert [generator.next() for _ in range(4)] == [11520, 0, 1509978240, 1215971899390074240]


def scalar_exp(z: float) -> float:
    """docs/sampling.md word for word, with Python's own doubles."""
    if z < -708.0:
        return 0.0
    k = math.floor(z * 1.4426950408889634 + 0.5)
    r = (z - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    p = 1.0 / math.factorial(13)
    for n in range(12, -1, -1):
        p = p * r + 1.0 / math.factorial(n)
    return p * 2.0**k


def scalar_sample(logits: list[float], temperature: float, generator: Xoshiro256) -> int:
    largest = max(logits)
    running, total = [], 0.0
    for logit in logits:
        total += scalar_exp((logit - largest) / temperature)
        running.append(total)
    target = (generator.next() >> 11) * 2.0**-53 * total
    return next(index for index, value in enumerate(running) if value > target)


def test_exp_equals_the_specification_to_the_bit_and_the_truth_closely() -> None:
    random = np.random.default_rng(1)
    z = np.concatenate(
        [-random.random(5000) * 720, -random.random(5000), [-0.0, 0.0, -708.0, -708.5, -np.inf, -1e-300]]
    )
    ours = exp_of_negatives(z)
    assert ours.tolist() == [scalar_exp(value) for value in z.tolist()]
    normal = z >= -708.0
    assert np.max(np.abs(ours[normal] / np.exp(z[normal]) - 1.0)) < 1e-15


@pytest.mark.parametrize("temperature", [1e-9, 0.3, 1.0, 7.5, 100.0])
def test_sampling_equals_the_specification_to_the_bit(temperature: float) -> None:
    """Rows longer than numpy's pairwise blocks, so that a sum in another order would show."""
    random = np.random.default_rng(2)
    sampler, generator = Sampler(temperature, seed=-77), Xoshiro256(-77)
    for _ in range(40):
        logits = (random.standard_normal(3000) * 4).astype(np.float32)
        assert sampler.sample(logits) == scalar_sample(logits.tolist(), temperature, generator)


def test_draws_follow_the_softmax() -> None:
    logits = np.array([0.0, 1.0, -np.inf, 2.0], dtype=np.float32)
    sampler = Sampler(temperature=2.0, seed=5)
    counts = np.bincount([sampler.sample(logits) for _ in range(20_000)], minlength=4)
    weights = np.exp(logits / 2.0)
    assert counts[2] == 0
    assert np.abs(counts / 20_000 - weights / weights.sum()).max() < 0.01


def test_greedy_takes_the_lowest_of_equals_and_ignores_the_seed() -> None:
    logits = np.array([-1.0, 3.0, 3.0, -np.inf], dtype=np.float32)
    assert {Sampler(0.0, seed).sample(logits) for seed in range(5)} == {1}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("logits", "named"),
    [
        ([0.0, math.nan, 1.0], "token 1 is nan"),
        ([0.0, 1.0, math.inf], "token 2 is inf"),
        ([-math.inf, -math.inf], "every logit"),
    ],
)
def test_nonsense_is_an_error(temperature: float, logits: list[float], named: str) -> None:
    with pytest.raises(LogitsError, match=named):
        Sampler(temperature).sample(np.array(logits, dtype=np.float32))


@pytest.mark.parametrize("temperature", [-0.1, 100.5, math.nan, math.inf])
def test_temperature_out_of_range_names_the_range(temperature: float) -> None:
    with pytest.raises(UsageError, match=r"0 \(greedy\) to 100"):
        Sampler(temperature)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_seed_out_of_range_names_the_range(seed: int) -> None:
    with pytest.raises(UsageError, match="64 bits"):
        Sampler(1.0, seed)
