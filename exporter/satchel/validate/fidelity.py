"""Fidelity: how far two models' next-token distributions are from one another, position by position and in the mean.

int8 activations make single logits chaotic, so nothing here compares them one by one; KL divergence, top-1 agreement
and perplexity are means over text, and come with their standard errors.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from satchel.validate.expected import log_softmax
from satchel.validate.texts import Text

WORST = 10  # positions that are kept to be looked at
_WORDS = 3  # next tokens kept of each model there


@dataclass(frozen=True)
class Position:
    """One place where the program was far from the reference.

    text: its name. index: of the last token read. in_chunk: that token ended a prefill chunk, else it was read by
    itself. kl: nats. original, packaged: (id, probability) of the likeliest next tokens, the reference's and the
    program's.
    """

    text: str
    index: int
    in_chunk: bool
    kl: float
    original: tuple[tuple[int, float], ...]
    packaged: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Fidelity:
    """Per position: KL(reference || program) in nats, top-1 agreement, and both models' negative log-likelihood of the
    token that follows (one position fewer: the last token has no successor). worst: the positions of the largest KL,
    largest first.

    index: of the last token read, int [n]. cluster: which of the positions belong together, int [n]: neighbours in one
    text, since what is hard to predict in one is hard in the next. reference_bits: what the reference needs for the
    whole text, whose `bytes` are counted as in Text.
    """

    kl: NDArray[np.float64]
    agree: NDArray[np.bool_]
    reference_nll: NDArray[np.float64]
    program_nll: NDArray[np.float64]
    worst: tuple[Position, ...] = ()
    index: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    cluster: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    reference_bits: float = 0.0
    bytes: int = 0

    @property
    def kl_mean(self) -> float:
        return float(self.kl.mean())

    @property
    def kl_p99(self) -> float:
        return float(np.percentile(self.kl, 99))

    @property
    def top1(self) -> float:
        return float(self.agree.mean())

    @property
    def kl_standard_error(self) -> float | None:
        return standard_error(self.kl, self.cluster)

    @property
    def top1_standard_error(self) -> float | None:
        return standard_error(self.agree.astype(np.float64), self.cluster)

    @property
    def reference_bits_per_byte(self) -> float | None:
        """How well the reference itself predicts the text, whatever its tokens are: 8 is chance over all bytes."""
        return self.reference_bits / self.bytes if self.bytes else None

    @property
    def perplexity_ratio(self) -> float:
        """Program's perplexity over the reference's."""
        return float(np.exp(self.program_nll.mean() - self.reference_nll.mean()))

    def kl_between(self, start: int, end: int) -> tuple[float, float | None]:
        """Mean KL of the positions start <= index < end, and its standard error."""
        inside = (self.index >= start) & (self.index < end)
        return float(self.kl[inside].mean()), standard_error(self.kl[inside], self.cluster[inside])


def standard_error(values: NDArray[np.float64], cluster: NDArray[np.int64]) -> float | None:
    """Standard error of the mean of `values` [n], of which those of one cluster [n] depend on one another.

    The estimate for the mean of clusters of unequal size (Cochran, Sampling Techniques, 3rd edition, section 9A.3,
    without the correction for a finite population). None for fewer than two clusters.
    """
    names, which = np.unique(cluster, return_inverse=True)
    if len(names) < 2 or len(values) != len(cluster):
        return None
    residuals = np.bincount(which, weights=values - values.mean())
    return float(np.sqrt(len(names) / (len(names) - 1) * np.sum(residuals**2)) / len(values))


def pooled(results: Mapping[str, Fidelity]) -> Fidelity:
    """All positions of all texts together."""
    parts = list(results.values())
    before = np.cumsum([0, *(part.cluster.max(initial=-1) + 1 for part in parts)])
    return Fidelity(
        kl=np.concatenate([part.kl for part in parts]),
        agree=np.concatenate([part.agree for part in parts]),
        reference_nll=np.concatenate([part.reference_nll for part in parts]),
        program_nll=np.concatenate([part.program_nll for part in parts]),
        worst=_worst(position for part in parts for position in part.worst),
        index=np.concatenate([part.index for part in parts]),
        cluster=np.concatenate([part.cluster + first for part, first in zip(parts, before, strict=False)]),
        reference_bits=sum(part.reference_bits for part in parts),
        bytes=sum(part.bytes for part in parts),
    )


class Comparison:
    """One text's positions so far. Of the distributions themselves nothing is kept but the worst ones' peaks."""

    def __init__(self, text: Text, reference_bits: float) -> None:
        self._text, self._bits = text, reference_bits
        self._index: list[int] = []
        self._cluster: list[int] = []
        self._kl: list[float] = []
        self._agree: list[bool] = []
        self._nll: list[tuple[float, float]] = []
        self._worst: tuple[Position, ...] = ()

    def add(
        self,
        index: int,
        original: NDArray[np.float64],
        logits: NDArray[np.float32],
        *,
        in_chunk: bool = False,
        cluster: int = 0,
    ) -> None:
        """The reference's log-probabilities [vocab] and the program's logits [vocab] after token `index`."""
        packaged = log_softmax(logits)
        kl = float(np.sum(np.exp(original) * (original - packaged)))
        self._index.append(index)
        self._cluster.append(cluster)
        self._kl.append(kl)
        self._agree.append(bool(original.argmax() == packaged.argmax()))
        if index + 1 < len(self._text.ids):
            following = self._text.ids[index + 1]
            self._nll.append((-float(original[following]), -float(packaged[following])))
        if kl > (self._worst[-1].kl if len(self._worst) == WORST else -np.inf):
            found = Position(self._text.name, index, in_chunk, kl, _likeliest(original), _likeliest(packaged))
            self._worst = _worst((*self._worst, found))

    def fidelity(self) -> Fidelity:
        pairs = np.array(self._nll, np.float64).reshape(-1, 2)
        return Fidelity(
            kl=np.array(self._kl),
            agree=np.array(self._agree),
            reference_nll=pairs[:, 0],
            program_nll=pairs[:, 1],
            worst=self._worst,
            index=np.array(self._index, np.int64),
            cluster=np.array(self._cluster, np.int64),
            reference_bits=self._bits,
            bytes=self._text.bytes,
        )


def _worst(positions: Iterable[Position]) -> tuple[Position, ...]:
    """The ten of the largest KL; a place that was read in both ways counts once."""
    found: dict[tuple[str, int], Position] = {}
    for position in sorted(positions, key=lambda one: -one.kl):
        found.setdefault((position.text, position.index), position)
    return tuple(found.values())[:WORST]


def _likeliest(log_probabilities: NDArray[np.float64]) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-log_probabilities, kind="stable")[:_WORDS]
    return tuple((int(token), float(np.exp(log_probabilities[token]))) for token in order)
