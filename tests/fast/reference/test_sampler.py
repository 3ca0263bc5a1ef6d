"""The sampler against published vectors, a plain loop of its specification, and the distribution it stands for."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from satchel.errors import LogitsError, UsageError
from satchel.reference.sampler import Sampler, SamplingOptions, Xoshiro256, exp_of_negatives


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


def sampler_of(vocab_size: int, prompt: Sequence[int] = (), **options: Any) -> Sampler:
    return Sampler(SamplingOptions(**options), vocab_size, prompt)


class ScalarSampler:
    """docs/sampling.md word for word, one number after another."""

    def __init__(self, options: SamplingOptions, prompt: Sequence[int] = ()) -> None:
        self.options, self.prompt, self.answer = options, prompt, list[int]()
        self.generator = Xoshiro256(options.seed)

    def sample(self, logits: list[float]) -> int:
        o = self.options
        x = []
        for i, logit in enumerate(logits):
            value = logit
            if i in self.prompt or i in self.answer:
                value = value / o.repetition_penalty if value > 0 else value * o.repetition_penalty
            if (count := self.answer.count(i)) > 0:
                value = (value - count * o.frequency_penalty) - o.presence_penalty
            x.append(value + o.logit_bias.get(i, 0.0))
        token = self.draw(x)
        self.answer.append(token)
        return token

    def draw(self, x: list[float]) -> int:
        o = self.options
        order = sorted(range(len(x)), key=lambda i: (-x[i], i))
        if o.temperature == 0.0:
            return order[0]
        m = x[order[0]]
        kept = order if o.top_k is None else order[: o.top_k]
        w = {i: scalar_exp((x[i] - m) / o.temperature) for i in sorted(kept)}
        if o.top_p < 1.0:
            total = 0.0
            for i in sorted(kept):
                total += w[i]
            share, first = 0.0, list[int]()
            for i in kept:
                first.append(i)
                share += w[i]
                if share >= o.top_p * total:
                    break
            kept = first
        kept = sorted(i for i in kept if w[i] >= o.min_p)
        total, running = 0.0, list[tuple[int, float]]()
        for i in kept:
            total += w[i]
            running.append((i, total))
        target = (self.generator.next() >> 11) * 2.0**-53 * total
        return next(i for i, sum_so_far in running if sum_so_far > target)


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
    options = SamplingOptions(temperature=temperature, seed=-77)
    sampler, scalar = Sampler(options, 3000), ScalarSampler(options)
    for _ in range(40):
        logits = (random.standard_normal(3000) * 4).astype(np.float32)
        assert sampler.sample(logits) == scalar.sample(logits.tolist())


def test_every_option_equals_the_specification_to_the_bit() -> None:
    """Random options and rows, with many equal logits and some that are never drawn."""
    random = np.random.default_rng(3)
    drawn = set()
    for seed in range(300):
        size = int(random.integers(1, 120))
        options = SamplingOptions(
            temperature=float(random.choice([0.0, 0.2, 1.0, 5.0])),
            top_k=None if random.random() < 0.5 else int(random.integers(1, 130)),
            top_p=1.0 if random.random() < 0.4 else float(random.uniform(0.01, 1.0)),
            min_p=0.0 if random.random() < 0.5 else float(random.uniform(0.0, 1.0)),
            repetition_penalty=float(random.choice([1.0, 0.5, 1.3])),
            presence_penalty=float(random.choice([0.0, -1.0, 0.7])),
            frequency_penalty=float(random.choice([0.0, -0.3, 0.4])),
            logit_bias={int(i): float(random.choice([-100.0, -1.5, 2.0])) for i in random.integers(0, size, 3)},
            seed=seed,
        )
        prompt = random.integers(0, size, 5).tolist()
        sampler, scalar = Sampler(options, size, prompt), ScalarSampler(options, prompt)
        for _ in range(8):
            logits = np.round(random.standard_normal(size) * 3).astype(np.float32)
            logits[random.random(size) < 0.1] = -np.inf
            logits[int(random.integers(0, size))] = 1.0
            token = sampler.sample(logits)
            assert token == scalar.sample(logits.tolist()), options
            drawn.add(token)
    assert len(drawn) > 50


def test_draws_follow_the_softmax() -> None:
    logits = np.array([0.0, 1.0, -np.inf, 2.0], dtype=np.float32)
    sampler = sampler_of(4, temperature=2.0, seed=5)
    counts = np.bincount([sampler.sample(logits) for _ in range(20_000)], minlength=4)
    weights = np.exp(logits / 2.0)
    assert counts[2] == 0
    assert np.abs(counts / 20_000 - weights / weights.sum()).max() < 0.01


def test_greedy_takes_the_lowest_of_equals_and_ignores_the_seed() -> None:
    logits = np.array([-1.0, 3.0, 3.0, -np.inf], dtype=np.float32)
    assert {sampler_of(4, seed=seed).sample(logits) for seed in range(5)} == {1}


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
        sampler_of(len(logits), temperature=temperature).sample(np.array(logits, dtype=np.float32))


def test_a_forbidden_token_is_never_drawn_and_forbidding_all_is_an_error() -> None:
    logits = np.zeros(3, dtype=np.float32)
    bias = {0: -math.inf, 2: -math.inf}
    sampler = sampler_of(3, temperature=1.0, logit_bias=bias)
    assert {sampler.sample(logits) for _ in range(50)} == {1}
    for temperature in (0.0, 1.0):
        with pytest.raises(LogitsError, match="forbids every token"):
            sampler_of(3, temperature=temperature, logit_bias={**bias, 1: -math.inf}).sample(logits)


def test_a_bias_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(UsageError, match="token 3 and the model has 3 tokens, 0 to 2"):
        sampler_of(3, logit_bias={3: 1.0})


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_seed_out_of_range_names_the_range(seed: int) -> None:
    """The other ranges are those of the shared cases (conformance/errors.json)."""
    with pytest.raises(UsageError, match="64-bit"):
        SamplingOptions(temperature=1.0, seed=seed)
