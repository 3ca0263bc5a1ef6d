"""What the float reference expects of the evaluation texts, as it is held against a program's logits.

Its last hidden states are kept; the logits follow from them, a few rows at a time: those of 2048 positions over a
vocabulary of 262 144 would take two gigabytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from satchel.errors import NonsenseError
from satchel.validate.texts import Evaluation, Text

ROWS = 32  # positions whose logits are held at once


@dataclass(frozen=True)
class Expected:
    """The reference's side of a measurement.

    hidden: text name -> last hidden states float32 [n, width]. bits: text name -> what the reference needs for the
    tokens after the first. logits_of: last hidden states [k, width] -> logits float32 [k, vocab].
    """

    evaluation: Evaluation
    hidden: Mapping[str, NDArray[np.float32]]
    bits: Mapping[str, float]
    logits_of: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    def log_probabilities(self, text: str, positions: Sequence[int]) -> NDArray[np.float64]:
        """[k, vocab] after the tokens at these positions, natural logarithms; k should be at most ROWS."""
        return log_softmax(self.logits_of(np.asarray(self.hidden[text][list(positions)])))

    @cached_property
    def bits_per_byte(self) -> float | None:
        """Over all texts; None if what they are in bytes is not known."""
        size = sum(text.bytes for text in self.evaluation.all)
        return sum(self.bits.values()) / size if size else None


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-softmax over the last axis in double precision."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide


def bits_needed(text: Text, hidden: NDArray[np.float32], logits_of: Callable[..., NDArray[np.float32]]) -> float:
    """What the reference needs for the tokens after the first. Raises NonsenseError if its logits are no numbers."""
    total = 0.0
    for start in range(0, len(text.ids) - 1, ROWS):
        following = text.ids[start + 1 : start + 1 + ROWS]
        rows = log_softmax(logits_of(hidden[start : start + len(following)]))
        total -= rows[np.arange(len(following)), following].sum()
    if not np.isfinite(total):
        raise NonsenseError(
            f"The float model's logits over the text {text.name!r} are not numbers. Get the model again."
        )
    return float(total / np.log(2))
