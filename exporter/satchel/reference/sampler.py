"""Draws the next token from logits, specified to the bit in docs/sampling.md.

numpy is used only where each of its operations is one rounded double operation per element, so that a plain loop on a
device gives the same bits: no sums but the running one, no exp, no fused multiply-add.
"""

import math

import numpy as np
from numpy.typing import NDArray

from satchel.errors import LogitsError, UsageError

MAX_TEMPERATURE = 100.0
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


def check_sampling(temperature: float, seed: int) -> None:
    """Raises UsageError unless temperature is 0 (greedy) to 100 and seed a signed 64-bit number."""
    if not 0.0 <= temperature <= MAX_TEMPERATURE:
        raise UsageError(f"temperature is {temperature}; it must be 0 (greedy) to {MAX_TEMPERATURE:g}")
    if not -(1 << 63) <= seed < 1 << 63:
        raise UsageError(f"seed is {seed}; it must fit 64 bits with sign, -2^63 to 2^63 - 1")


class Sampler:
    """One generation's sampler: it owns the random generator."""

    def __init__(self, temperature: float = 0.0, seed: int = 0) -> None:
        check_sampling(temperature, seed)
        self._temperature = temperature
        self._generator = Xoshiro256(seed)

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next id from logits float32 [vocabulary]. Raises LogitsError if no token can be drawn from them."""
        _check(logits)
        if self._temperature == 0.0:
            return int(np.argmax(logits))
        wide = logits.astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature gives negative infinity, whose weight is 0
            weights = exp_of_negatives((wide - wide.max()) / self._temperature)
        running = np.add.accumulate(weights)
        target = self._generator.uniform() * float(running[-1])
        return int(np.searchsorted(running, target, side="right"))


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
