"""Behaviour, measured: a running program beside the float reference over texts, kept and read again."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from satchel.compile.golden import TeacherForced
from satchel.files import canonical_json
from satchel.reference.engine import Engine
from satchel.report.figures import Figures, Gate, Histogram, Quarter, TextFigures, worst_share
from satchel.validate.behaviour import LAST, measure
from satchel.validate.expected import ROWS, Expected
from satchel.validate.fidelity import Fidelity, Position, pooled
from satchel.validate.speed import machine, measure_speed

_GOLDEN_TOKENS = 64


@dataclass(frozen=True)
class Behaviour:
    """What one target measured, the reference's own words for golden.json, and the worst positions as ids.

    `figures.worst` is empty: whoever has the tokenizer puts the positions into words.
    """

    figures: Figures
    golden: TeacherForced
    worst: tuple[Position, ...] = ()


def measured_behaviour(
    expected: Expected,
    open_engine: Callable[[], Engine],
    peak: Callable[[], int],
    limits: Mapping[str, float],
    progress: Callable[[int, int], None],
) -> Behaviour:
    """Runs the program over the texts, beside what is expected. peak: see measure_speed. limits: gate name -> limit."""
    engine, speed = measure_speed(open_engine, peak)
    results = measure(engine, expected, progress)
    engine.close()
    everything, whole = pooled(results), results[expected.evaluation.whole.name]
    figures = Figures(
        tokens=len(everything.kl),
        kl_mean=everything.kl_mean,
        kl_p99=everything.kl_p99,
        top1=everything.top1,
        ppl_ratio=everything.perplexity_ratio,
        load_s=speed.load_s,
        prefill_tps=speed.prefill_tps,
        decode_tps=speed.decode_tps,
        peak_rss_mb=speed.memory_mb,
        kl_standard_error=everything.kl_standard_error,
        top1_standard_error=everything.top1_standard_error,
        reference_bits_per_byte=everything.reference_bits_per_byte,
        kl_by_quarter=quarters(whole, len(expected.evaluation.whole.ids)),
        kl_at_end=tuple(float(kl) for kl in whole.kl[-LAST:]),
        worst_share=worst_share(everything.kl),
        machine=machine(),
        histogram=Histogram.of(everything.kl),
        texts=tuple(_text_figures(name, fidelity) for name, fidelity in results.items()),
    )
    figures = replace(figures, gates=behaviour_gates(figures, limits))
    return Behaviour(figures, _golden(expected, limits), everything.worst)


def quarters(whole: Fidelity, length: int) -> tuple[Quarter, ...]:
    """The four quarters of a context of `length` positions, of a text that fills it."""
    borders = [round(length * quarter / 4) for quarter in range(5)]
    return tuple(Quarter(*whole.kl_between(start, end)) for start, end in pairwise(borders))


def _golden(expected: Expected, limits: Mapping[str, float]) -> TeacherForced:
    text = expected.evaluation.golden
    ids = [int(i) for i in text.ids[:_GOLDEN_TOKENS]]
    rows = np.concatenate(
        [
            expected.log_probabilities(text.name, range(start, min(start + ROWS, len(ids) - 1)))
            for start in range(0, len(ids) - 1, ROWS)
        ]
    )
    log_probabilities = rows[np.arange(len(ids) - 1), ids[1:]]
    return TeacherForced(ids, log_probabilities, golden_tolerance(limits.get("kl_mean", 0.0), len(ids) - 1))


def golden_tolerance(kl_limit: float, positions: int) -> float:
    """How far a device's mean log-probability over `positions` tokens may be from the reference's, in nats.

    The difference of one position has a mean of about the divergence that the gate allows and a variance of about twice
    that (the second-order expansion of KL), and every processor's int8 kernels draw it anew. Four standard deviations
    of the mean of so many: not one right device in ten thousand fails.
    """
    return round(max(0.01, kl_limit + 4 * math.sqrt(2 * kl_limit / positions)), 4)


def behaviour_gates(figures: Figures, limits: Mapping[str, float]) -> dict[str, Gate]:
    """The gates of the recipe. KL and top-1 must keep their limits at the bound of their uncertainty that is worse for
    them; a quarter of the context breaks the limit of the KL only if its better bound does, since the worst of four
    small samples is often above their common mean."""
    gates = {}
    if "kl_mean" in limits:
        limit = limits["kl_mean"]
        gates["kl_mean"] = Gate(figures.kl_mean, limit, error=figures.kl_standard_error)
        worst = max(figures.kl_by_quarter, key=lambda quarter: (math.isnan(quarter.kl), quarter.lower_bound))
        gates["kl_worst_quarter"] = Gate(worst.kl, limit, error=worst.standard_error, in_favour=True)
    if "top1" in limits:
        gates["top1"] = Gate(figures.top1, limits["top1"], at_least=True, error=figures.top1_standard_error)
    return gates


def write_behaviour(behaviour: Behaviour, folder: Path) -> None:
    """Keeps a measurement in a cache folder."""
    golden = {
        "ids": list(behaviour.golden.ids),
        "log_probabilities": [float(value) for value in behaviour.golden.log_probabilities],
        "tolerance": behaviour.golden.tolerance,
    }
    figures = asdict(replace(behaviour.figures, gates={}))
    worst = [asdict(position) for position in behaviour.worst]
    (folder / "behaviour.json").write_bytes(canonical_json({"figures": figures, "golden": golden, "worst": worst}))


def read_behaviour(folder: Path, limits: Mapping[str, float]) -> Behaviour:
    """The measurement kept in `folder`, judged by these limits."""
    data: dict[str, Any] = json.loads((folder / "behaviour.json").read_text(encoding="utf-8"))
    figures, golden = data["figures"], data["golden"]
    figures["texts"] = tuple(TextFigures(**text) for text in figures["texts"])
    figures["worst"] = ()
    figures["histogram"] = Histogram(**{name: tuple(values) for name, values in figures["histogram"].items()})
    figures["kl_by_quarter"] = tuple(Quarter(**quarter) for quarter in figures["kl_by_quarter"])
    figures["kl_at_end"] = tuple(figures["kl_at_end"])
    kept = Figures(**figures)
    forced = TeacherForced(golden["ids"], np.array(golden["log_probabilities"]), golden["tolerance"])
    return Behaviour(
        replace(kept, gates=behaviour_gates(kept, limits)), forced, tuple(_position(one) for one in data["worst"])
    )


def _position(entry: dict[str, Any]) -> Position:
    words = {name: tuple((token, share) for token, share in entry[name]) for name in ("original", "packaged")}
    return Position(**{**entry, **words})


def _text_figures(name: str, fidelity: Fidelity) -> TextFigures:
    return TextFigures(
        name=name,
        tokens=len(fidelity.kl),
        kl_mean=fidelity.kl_mean,
        kl_p99=fidelity.kl_p99,
        top1=fidelity.top1,
        ppl_ratio=fidelity.perplexity_ratio,
        kl_standard_error=fidelity.kl_standard_error,
        top1_standard_error=fidelity.top1_standard_error,
        reference_bits_per_byte=fidelity.reference_bits_per_byte,
    )
