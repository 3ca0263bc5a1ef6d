"""Measured figures and the gates they must pass: what behaviour fills and the report shows."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]

# Largest difference of logits that a graph proof lets pass, as a part of the largest logit. Float32 rounding at the
# widths of real models stays below half of it (tests/verify/test_real_shapes.py).
GRAPH_TOLERANCE = 2e-5

# Nats, four bins per factor of ten: the same for every program, so that histograms can be laid side by side.
HISTOGRAM_EDGES = tuple(float(f"{10 ** (quarter / 4):.4g}") for quarter in range(-20, 5))


CONFIDENCE = 0.95  # of a bound
_DEVIATIONS = NormalDist().inv_cdf(CONFIDENCE)


@dataclass(frozen=True)
class Gate:
    """One figure and its limit. `at_least`: the figure must not be below the limit (else: not above).

    error: standard error of a figure that is a mean over a sample; its one-sided bound of 95 % is then what must keep
    the limit: the bound on the side of the limit, or, `in_favour`, the one on the other side.
    """

    value: float
    limit: float
    at_least: bool = False
    error: float | None = None
    in_favour: bool = False

    @property
    def bound(self) -> float:
        return self.value + _DEVIATIONS * (self.error or 0.0) * (-1 if self.at_least != self.in_favour else 1)

    @property
    def passed(self) -> bool:
        """False for a figure that is not a number, whatever the limit."""
        return self.bound >= self.limit if self.at_least else self.bound <= self.limit

    @property
    def told(self) -> str:
        """The figure and what was asked of it, in words."""
        bound = "" if self.error is None else f" ({self.bound:.4g} with {CONFIDENCE:.0%} confidence)"
        return f"{self.value:.4g}{bound} and must be {'at least' if self.at_least else 'at most'} {self.limit:.4g}"

    def to_dict(self) -> Json:
        return {
            "value": finite(self.value),
            "bound": finite(self.bound),
            "limit": self.limit,
            "passed": self.passed,
            "at_least": self.at_least,
        }


@dataclass(frozen=True)
class Quarter:
    """Mean KL over what was measured of one quarter of the context, nats, and its standard error."""

    kl: float
    standard_error: float | None

    @property
    def lower_bound(self) -> float:
        return self.kl - _DEVIATIONS * (self.standard_error or 0.0)


@dataclass(frozen=True)
class TextFigures:
    """Fidelity on one evaluation text, teacher-forced against the float model.

    tokens: predicted positions. kl_mean, kl_p99: nats. top1: share of positions whose most likely token is the same.
    ppl_ratio: perplexity divided by the float model's. kl_standard_error, top1_standard_error: of these means, by
    blocks of 32 neighbouring positions; None for a text of one block. reference_bits_per_byte: how well the float model
    itself predicts the text.
    """

    name: str
    tokens: int
    kl_mean: float
    kl_p99: float
    top1: float
    ppl_ratio: float
    kl_standard_error: float | None = None
    top1_standard_error: float | None = None
    reference_bits_per_byte: float | None = None


@dataclass(frozen=True)
class Histogram:
    """How many positions have which KL. edges: nats, ascending. counts: one more than edges: what is below the first
    edge, between neighbours (the lower edge belongs to the bin), and from the last edge on."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, kl: NDArray[np.float64]) -> "Histogram":
        """kl: nats [n]. What is not a number is in no bin."""
        bins = np.searchsorted(HISTOGRAM_EDGES, kl[~np.isnan(kl)], side="right")
        counts = np.bincount(bins, minlength=len(HISTOGRAM_EDGES) + 1)
        return cls(HISTOGRAM_EDGES, tuple(int(count) for count in counts))


@dataclass(frozen=True)
class NextWord:
    """A token as text (bytes that are no whole character as `\\xNN`) and its probability."""

    text: str
    probability: float


@dataclass(frozen=True)
class Excerpt:
    """One position in words.

    text: name of the evaluation text. position: index of the last token read. in_chunk: read as the end of a prefill
    chunk, else by itself. kl: nats. before: the text up to and with that token, … for what is left out. following: the
    token that follows in the text; None at its end. original, packaged: the likeliest next tokens of the float model
    and of the program.
    """

    text: str
    position: int
    in_chunk: bool
    kl: float
    before: str
    following: str | None
    original: tuple[NextWord, ...]
    packaged: tuple[NextWord, ...]


@dataclass(frozen=True)
class Figures:
    """What one target (host, jvm, ...) measured over all texts. Speeds in tokens per second, times in seconds;
    None where the program was evaluated rather than run.

    kl_standard_error, top1_standard_error, reference_bits_per_byte: as in TextFigures. kl_by_quarter: of the text that
    fills the context. kl_at_end: KL of the context's last positions one by one. worst_share: the part of all
    divergence that comes from the worst hundredth of the positions, None if there is no divergence. peak_rss_mb: the
    most resident memory that the program added to its process while it was timed, in 10^6 bytes. machine: where it ran.
    worst: the positions of the largest KL, largest first.
    """

    tokens: int
    kl_mean: float
    kl_p99: float
    top1: float
    ppl_ratio: float
    load_s: float | None
    prefill_tps: float | None
    decode_tps: float | None
    peak_rss_mb: float | None
    kl_standard_error: float | None = None
    top1_standard_error: float | None = None
    reference_bits_per_byte: float | None = None
    kl_by_quarter: tuple[Quarter, ...] = ()
    kl_at_end: tuple[float, ...] = ()
    worst_share: float | None = None
    machine: str = ""
    texts: tuple[TextFigures, ...] = ()
    histogram: Histogram = field(default_factory=lambda: Histogram.of(np.array([])))
    worst: tuple[Excerpt, ...] = ()
    gates: Mapping[str, Gate] = field(default_factory=dict)

    def to_dict(self) -> Json:
        return {
            **{name: finite(value) for name, value in vars(self).items() if name not in _NESTED},
            "kl_by_quarter": [finite(quarter.kl) for quarter in self.kl_by_quarter],
            "kl_by_quarter_standard_error": [finite(quarter.standard_error) for quarter in self.kl_by_quarter],
            "kl_at_end": [finite(kl) for kl in self.kl_at_end],
            "texts": [{name: finite(value) for name, value in asdict(text).items()} for text in self.texts],
            "histogram": asdict(self.histogram),
            "worst": [asdict(excerpt) for excerpt in self.worst],
            "gates": gates_to_dict(self.gates),
        }


_NESTED = ("kl_by_quarter", "kl_at_end", "texts", "histogram", "worst", "gates")

UNMEASURED: Json = {
    **dict.fromkeys(
        ("tokens", "kl_mean", "kl_p99", "top1", "ppl_ratio", "load_s", "prefill_tps", "decode_tps", "peak_rss_mb")
    ),
    **dict.fromkeys(("kl_standard_error", "top1_standard_error", "reference_bits_per_byte", "worst_share")),
    "machine": "",
    **dict.fromkeys(("kl_by_quarter", "kl_by_quarter_standard_error", "kl_at_end")),
    "texts": [],
    "histogram": None,
    "worst": [],
}


def worst_share(kl: NDArray[np.float64]) -> float | None:
    """The part of the sum of `kl` (nats [n]) that its largest hundredth, at least one, brings; None for a sum of 0."""
    ordered = np.sort(kl)[::-1]
    total = ordered.sum()
    return float(ordered[: max(1, len(ordered) // 100)].sum() / total) if total > 0 else None


def gates_to_dict(gates: Mapping[str, Gate]) -> Json:
    return {name: gate.to_dict() for name, gate in gates.items()}


def finite(value: Any) -> Any:
    """None for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
