"""Behaviour: how far the program's next-token distributions are from the float reference's, over held-out text.

Teacher forcing: both models read the same text and predict every next token. int8 activations make single logits
chaotic, so nothing here compares them one by one; KL divergence, top-1 agreement and perplexity are means over text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from satchel.runtimes.engine import Engine


@dataclass(frozen=True)
class Text:
    """One evaluation text as token ids int64 [n]."""

    name: str
    ids: NDArray[np.int64]


@dataclass(frozen=True)
class Fidelity:
    """Per position: KL(reference || program) in nats, top-1 agreement, and both models' negative log-likelihood of the
    token that follows (one position fewer: the last token has no successor)."""

    kl: NDArray[np.float64]
    agree: NDArray[np.bool_]
    reference_nll: NDArray[np.float64]
    program_nll: NDArray[np.float64]

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
    def perplexity_ratio(self) -> float:
        """Program's perplexity over the reference's."""
        return float(np.exp(self.program_nll.mean() - self.reference_nll.mean()))


def measure(
    engine: Engine,
    reference: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    texts: Sequence[Text],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Mapping[str, Fidelity]:
    """text name -> Fidelity. `reference` maps ids [n] to logits float32 [n, vocab].

    The program reads each text twice: token by token, which gives every position, and in prefill chunks of full
    length, whose last logits count as positions of their own, so that a prefill that differs from decode shows.
    """
    total, done = sum(len(text.ids) for text in texts), 0
    results: dict[str, Fidelity] = {}
    for text in texts:
        expected = _log_probabilities(reference(text.ids))
        rows = [_Row.of(expected, text.ids, 0, engine.forward(text.ids[:1], 0))]
        for position in range(1, len(text.ids)):
            rows.append(
                _Row.of(expected, text.ids, position, engine.forward(text.ids[position : position + 1], position))
            )
            if position % 32 == 0:
                progress(done + position, total)
        for start in range(0, len(text.ids), engine.prefill_chunk):
            chunk = text.ids[start : start + engine.prefill_chunk]
            rows.append(_Row.of(expected, text.ids, start + len(chunk) - 1, engine.forward(chunk, start)))
        done += len(text.ids)
        progress(done, total)
        results[text.name] = _fidelity(rows)
    return results


def pooled(results: Mapping[str, Fidelity]) -> Fidelity:
    """All positions of all texts together."""
    parts = list(results.values())
    return Fidelity(
        kl=np.concatenate([part.kl for part in parts]),
        agree=np.concatenate([part.agree for part in parts]),
        reference_nll=np.concatenate([part.reference_nll for part in parts]),
        program_nll=np.concatenate([part.program_nll for part in parts]),
    )


@dataclass(frozen=True)
class _Row:
    kl: float
    agrees: bool
    nll: tuple[float, float] | None

    @classmethod
    def of(
        cls, expected: NDArray[np.float64], ids: NDArray[np.int64], position: int, logits: NDArray[np.float32]
    ) -> "_Row":
        theirs, ours = expected[position], _log_probabilities(logits)
        kl = float(np.sum(np.exp(theirs) * (theirs - ours)))
        nll = None
        if position + 1 < len(ids):
            following = ids[position + 1]
            nll = (-float(theirs[following]), -float(ours[following]))
        return cls(kl, bool(theirs.argmax() == ours.argmax()), nll)


def _fidelity(rows: Sequence[_Row]) -> Fidelity:
    pairs = np.array([row.nll for row in rows if row.nll is not None], np.float64).reshape(-1, 2)
    return Fidelity(
        kl=np.array([row.kl for row in rows]),
        agree=np.array([row.agrees for row in rows]),
        reference_nll=pairs[:, 0],
        program_nll=pairs[:, 1],
    )


def _log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-softmax over the last axis in double precision."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide
