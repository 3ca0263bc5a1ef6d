"""Draws the next token from logits, specified to the bit in docs/sampling.md.

numpy is used only where each of its operations is one rounded double operation per element, so that a plain loop on a
device gives the same bits: no sums but the running one, no exp, no fused multiply-add.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from satchel.errors import LogitsError, UsageError

_WORD = (1 << 64) - 1

_LOG2_E = float.fromhex("0x1.71547652b82fep+0")
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_EXP_COEFFICIENTS = tuple(1.0 / math.factorial(n) for n in range(14))
_SMALLEST_EXPONENT = -708.0


class Xoshiro256:
    """xoshiro256** 1.0 by Blackman and Vigna, seeded by SplitMix64."""

    def __init__(self, seed: int) -> None:
        state = seed & _WORD
        words = []
        for _ in range(4):
            state = (state + 0x9E3779B97F4A7C15) & _WORD
            mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
            words.append(mixed ^ (mixed >> 31))
        self._words = words

    def next(self) -> int:
        """The next 64 random bits, as an unsigned number."""
        s = self._words
        result = (_rotated((s[1] * 5) & _WORD, 7) * 9) & _WORD
        shifted = (s[1] << 17) & _WORD
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = _rotated(s[3], 45)
        return result

    def uniform(self) -> float:
        """A number from 0 (included) to 1 (excluded), a multiple of 2^-53."""
        return (self.next() >> 11) * 2.0**-53


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How a token is drawn; the neutral values change nothing. Raises UsageError outside the ranges.

    temperature: 0 (greedy) to 100. top_k: at least 1, None for all. top_p: above 0, to 1. min_p: 0 to 1.
    repetition_penalty: 0.1 to 10, for ids of the prompt and the answer. presence_penalty, frequency_penalty: -2 to 2,
    for ids of the answer. logit_bias: per id -100 to 100, or negative infinity, which forbids it. seed: 64 bits.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, 0.0 <= self.temperature <= 100.0, "0 (greedy) to 100")
        _require("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "at least 1")
        _require("top_p", self.top_p, 0.0 < self.top_p <= 1.0, "above 0, to 1")
        _require("min_p", self.min_p, 0.0 <= self.min_p <= 1.0, "0 to 1")
        _require("repetition_penalty", self.repetition_penalty, 0.1 <= self.repetition_penalty <= 10.0, "0.1 to 10")
        _require("presence_penalty", self.presence_penalty, -2.0 <= self.presence_penalty <= 2.0, "-2 to 2")
        _require("frequency_penalty", self.frequency_penalty, -2.0 <= self.frequency_penalty <= 2.0, "-2 to 2")
        for token, bias in self.logit_bias.items():
            _require("an id in logit_bias", token, token >= 0, "at least 0")
            allowed = -100.0 <= bias <= 100.0 or bias == -math.inf
            _require(f"logit_bias of token {token}", bias, allowed, "-100 to 100, or negative infinity")
        _require("seed", self.seed, -(1 << 63) <= self.seed < 1 << 63, "a 64-bit number with sign, -2^63 to 2^63 - 1")


def _require(name: str, value: object, allowed: bool, wanted: str) -> None:
    if not allowed:
        raise UsageError(f"{name} is {value}; it must be {wanted}")


class Sampler:
    """One generation's sampler: it owns the random generator and the counts that penalties look at.

    prompt: ids before the first drawn one. Raises UsageError if logit_bias names an id beyond the vocabulary.
    """

    def __init__(self, options: SamplingOptions, vocab_size: int, prompt: Sequence[int] = ()) -> None:
        self._options = options
        self._generator = Xoshiro256(options.seed)
        self._seen = np.zeros(vocab_size, dtype=np.bool_)  # in the prompt or the answer
        self._seen[list(prompt)] = True
        self._drawn = np.zeros(vocab_size, dtype=np.float64)  # how often in the answer
        self._bias = np.zeros(vocab_size, dtype=np.float64)
        for token, bias in options.logit_bias.items():
            if token >= vocab_size:
                raise UsageError(
                    f"logit_bias names token {token} and the model has {vocab_size} tokens, 0 to {vocab_size - 1}"
                )
            self._bias[token] = bias

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next id from logits float32 [vocabulary]. Raises LogitsError if no token can be drawn from them."""
        _check(logits)
        x = self._adjusted(logits.astype(np.float64))
        token = int(np.argmax(x)) if self._options.temperature == 0.0 else self._draw(x)
        if x[token] == -np.inf:
            raise LogitsError("logit_bias forbids every token that the program could give: allow one")
        self._seen[token] = True
        self._drawn[token] += 1.0
        return token

    def _adjusted(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Penalties, then biases."""
        options = self._options
        penalty = options.repetition_penalty
        x = np.where(self._seen, np.where(x > 0.0, x / penalty, x * penalty), x)
        fallen = (x - self._drawn * options.frequency_penalty) - options.presence_penalty
        x = np.where(self._drawn > 0.0, fallen, x)
        return x + self._bias

    def _draw(self, x: NDArray[np.float64]) -> int:
        options = self._options
        largest = x.max()
        if largest == -np.inf:
            return 0
        with np.errstate(over="ignore"):  # a tiny temperature gives negative infinity, whose weight is 0
            weights = exp_of_negatives((x - largest) / options.temperature)
        kept = np.ones(len(x), dtype=np.bool_)
        if options.top_k is not None or options.top_p < 1.0:
            order = np.lexsort((np.arange(len(x)), -x))[: options.top_k]  # the likeliest first, of equals the lowest id
            if options.top_p < 1.0:
                target = options.top_p * _running(weights[np.sort(order)])[-1]
                order = order[: int(np.searchsorted(_running(weights[order]), target, side="left")) + 1]
            kept[:] = False
            kept[order] = True
        kept &= weights >= options.min_p
        ids = np.flatnonzero(kept)
        running = _running(weights[ids])
        target = self._generator.uniform() * float(running[-1])
        return int(ids[np.searchsorted(running, target, side="right")])


def _running(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the first 1, 2, .. weights, added one after another."""
    return np.add.accumulate(weights)


def exp_of_negatives(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(z) for z <= 0, elementwise, by additions and multiplications in a fixed order; 0 below -708."""
    inside = np.maximum(z, _SMALLEST_EXPONENT)
    k = np.floor(inside * _LOG2_E + 0.5)
    r = (inside - k * _LN2_HIGH) - k * _LN2_LOW
    p = np.full_like(r, _EXP_COEFFICIENTS[-1])
    for coefficient in reversed(_EXP_COEFFICIENTS[:-1]):
        p = p * r + coefficient
    power = ((k.astype(np.int64) + 1023) << 52).view(np.float64)
    return np.where(z < _SMALLEST_EXPONENT, 0.0, p * power)


def _check(logits: NDArray[np.float32]) -> None:
    bad = np.isnan(logits) | (logits == np.inf)
    if bad.any():
        token = int(np.argmax(bad))
        raise LogitsError(f"the logit of token {token} is {logits[token]}: the program computed nonsense")
    if not np.isfinite(logits).any():
        raise LogitsError("every logit is negative infinity: the program computed nonsense")


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _WORD
