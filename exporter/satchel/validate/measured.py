"""Behaviour, measured: a running program beside the float reference over texts, kept and read again."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from satchel.compile.golden import TeacherForced
from satchel.files import canonical_json
from satchel.reference.engine import Engine
from satchel.report.figures import Figures, Gate, Histogram, TextFigures, worst_share
from satchel.source.checkpoint import EMBEDDING, HEAD, Checkpoint
from satchel.validate.behaviour import Fidelity, Position, Text, measure, pooled
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


def has_reference() -> bool:
    """True if a float reference can be computed here (torch and transformers are installed)."""
    return find_spec("torch") is not None and find_spec("transformers") is not None


def measured_behaviour(
    checkpoint: Checkpoint,
    open_engine: Callable[[], Engine],
    peak: Callable[[], int],
    texts: Sequence[Text],
    limits: Mapping[str, float],
    progress: Callable[[int, int], None],
) -> Behaviour:
    """Runs the program and the float reference over the texts. peak: see measure_speed. limits: gate name -> limit."""
    from satchel.validate.reference import Reference

    engine, speed = measure_speed(open_engine, peak)
    reference = Reference(checkpoint.config, lambda name: checkpoint.read(_stored_name(checkpoint, name)))
    results = measure(engine, reference.logits, texts, progress)
    engine.close()
    everything = pooled(results)
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
        worst_share=worst_share(everything.kl),
        machine=machine(),
        histogram=Histogram.of(everything.kl),
        texts=tuple(_text_figures(name, fidelity) for name, fidelity in results.items()),
        gates=behaviour_gates(everything.kl_mean, everything.top1, limits),
    )
    ids = texts[-1].ids[:_GOLDEN_TOKENS]
    log_probabilities = _log_probabilities(reference.logits(ids), ids)
    tolerance = golden_tolerance(limits.get("kl_mean", 0.0), len(ids) - 1)
    return Behaviour(figures, TeacherForced([int(i) for i in ids], log_probabilities, tolerance), everything.worst)


def golden_tolerance(kl_limit: float, positions: int) -> float:
    """How far a device's mean log-probability over `positions` tokens may be from the reference's, in nats.

    The difference of one position has a mean of about the divergence that the gate allows and a variance of about twice
    that (the second-order expansion of KL), and every processor's int8 kernels draw it anew. Four standard deviations
    of the mean of so many: not one right device in ten thousand fails.
    """
    return round(max(0.01, kl_limit + 4 * math.sqrt(2 * kl_limit / positions)), 4)


def behaviour_gates(kl_mean: float, top1: float, limits: Mapping[str, float]) -> dict[str, Gate]:
    gates = {}
    if "kl_mean" in limits:
        gates["kl_mean"] = Gate(kl_mean, limits["kl_mean"])
    if "top1" in limits:
        gates["top1"] = Gate(top1, limits["top1"], at_least=True)
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
    figures["gates"] = behaviour_gates(figures["kl_mean"], figures["top1"], limits)
    forced = TeacherForced(golden["ids"], np.array(golden["log_probabilities"]), golden["tolerance"])
    return Behaviour(Figures(**figures), forced, tuple(_position(one) for one in data["worst"]))


def _position(entry: dict[str, Any]) -> Position:
    words = {name: tuple((token, share) for token, share in entry[name]) for name in ("original", "packaged")}
    return Position(**{**entry, **words})


def _stored_name(checkpoint: Checkpoint, name: str) -> str:
    return EMBEDDING if name == HEAD and HEAD not in checkpoint.tensors else name


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


def _log_probabilities(logits: Any, ids: Any) -> Any:
    """Natural logarithms of the probabilities of ids[1:], float64 [n - 1]."""
    wide = logits[:-1].astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide[np.arange(len(ids) - 1), ids[1:]]
