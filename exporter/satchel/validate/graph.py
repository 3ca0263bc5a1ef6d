"""Graph proof: the lowered program computes Hugging Face's model, whatever the weights are.

The architecture, cut to one layer of each kind (two at least) and a small vocabulary, is lowered twice with random
weights: as plain float32, and in the recipe's own decomposition (offset linears and all) evaluated in float32 from
dequantized weights. Both must give Hugging Face's logits, in prefill and decode and past any sliding window. What they
are compared with is computed in float64, so a difference is the program's own rounding, and it is told as a part of
the largest logit, because float32 rounds relatively. Then `complete` proves that all that holds a weight is known.
int8 activations would hide a wrong wire behind their rounding (they turn 1e-7 at the input into 2 at the output), so
they play no part here; `behaviour` measures them.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.backends.backend import Backend
from satchel.lower.decoder import parameter_shapes, parsed_config
from satchel.lower.placeholder import TiedPlaceholders
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.report.figures import GRAPH_TOLERANCE
from satchel.skeleton.spec import ProgramSpec
from satchel.source.checkpoint import HEAD
from satchel.validate.complete import what_no_slot_explains, write_program
from satchel.validate.reference import Reference

_VOCABULARY = 512
_LAYERS = 2
_DECODE_STEPS = 12


@dataclass(frozen=True)
class Difference:
    """Of one program's logits from the reference's. max_abs: the largest; scale: the largest absolute logit there."""

    max_abs: float
    scale: float

    @property
    def relative(self) -> float:
        return self.max_abs / self.scale if self.scale else float("inf")


@dataclass(frozen=True)
class GraphProof:
    """How far the logits are from Hugging Face's as plain float32 and in the recipe's decomposition, and on what it was
    measured. incomplete: where weights are in the program without a slot, in words; empty if nowhere. positions: how
    far the text went."""

    plain: Difference
    decomposed: Difference
    incomplete: str
    layers: int
    positions: int

    @property
    def relative(self) -> float:
        """The figure whose limit is GRAPH_TOLERANCE; NaN if a logit is."""
        return float(np.max([self.plain.relative, self.decomposed.relative]))

    @property
    def passed(self) -> bool:
        return self.relative <= GRAPH_TOLERANCE and not self.incomplete

    def as_dict(self) -> dict[str, Any]:
        """What a Skeleton and report.json keep of it."""
        return {
            "plain_max_abs": self.plain.max_abs,
            "decomposed_max_abs": self.decomposed.max_abs,
            "max_abs": float(np.max([self.plain.max_abs, self.decomposed.max_abs])),
            "scale": self.decomposed.scale,
            "plain_relative": self.plain.relative,
            "decomposed_relative": self.decomposed.relative,
            "relative": self.relative,
            "tolerance": GRAPH_TOLERANCE,
            "complete": not self.incomplete,
            "incomplete": self.incomplete,
            "layers": self.layers,
            "positions": self.positions,
        }


def prove(spec: ProgramSpec, backend: Backend) -> GraphProof:
    """Lowers the cut architecture four times with the backend: twice to be run exactly and compared with Hugging Face,
    twice to see that filling one with the other's weights gives the other."""
    cut = cut_spec(spec)
    plain = QuantPlan({name: TensorPlan("float") for name in cut.plan.tensors}, cut.plan.tied)
    ids = np.random.default_rng(7).integers(0, cut.config["vocab_size"], cut.context_length - 4)
    of_plain = _compare(replace(cut, plan=plain), ids, backend)
    decomposed = of_plain if plain == cut.plan else _compare(cut, ids, backend)
    equal = of_plain.relative <= GRAPH_TOLERANCE and decomposed.relative <= GRAPH_TOLERANCE
    return GraphProof(
        plain=of_plain,
        decomposed=decomposed,
        # A program that computes something else may lack a weight altogether, and a converter fail over that.
        incomplete=what_no_slot_explains(cut, backend) if equal else "not looked at, since the logits differ",
        layers=cut.config["num_hidden_layers"],
        positions=len(ids),
    )


def cut_spec(spec: ProgramSpec) -> ProgramSpec:
    """The same architecture with one layer of each kind (at least two in all), a small vocabulary and a context that
    goes past its sliding window."""
    config = dict(spec.config)
    # transformers' own list: config.json may leave it out and give a pattern, or the first layer that has a window.
    kinds = list(dict.fromkeys(getattr(parsed_config(config), "layer_types", None) or []))
    layers = min(max(_LAYERS, len(kinds)), config["num_hidden_layers"])
    config["num_hidden_layers"] = layers
    if kinds:
        config["layer_types"] = (kinds * _LAYERS)[:layers]
    config["vocab_size"] = min(config["vocab_size"], _VOCABULARY)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        config[name] = None
    window = config.get("sliding_window") or 0
    reach = 2 * spec.prefill_chunk + _DECODE_STEPS + 8
    context = min(window + reach if window < spec.context_length else reach, spec.context_length)
    names = parameter_shapes(config)
    tensors = {name: spec.plan[name] for name in names if not (spec.plan.tied and name == HEAD)}
    return replace(spec, config=config, plan=QuantPlan(tensors, spec.plan.tied), context_length=context)


def _compare(spec: ProgramSpec, ids: NDArray[np.int64], backend: Backend) -> Difference:
    """Over chunked prefill and decode, with the spec's plan."""
    weights = TiedPlaceholders(spec.plan, parameter_shapes(spec.config), {})
    program = backend.lower_dequantized(spec, weights)
    expected = Reference(spec.config, lambda name: backend.weight(weights.read(name)), double=True).logits(ids)
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program"
        write_program(path, program)
        engine = backend.exact_runtime()(path, None)
        position = 0
        while position < len(ids):
            # Chunks of several lengths, the last tokens one by one.
            left = len(ids) - position - _DECODE_STEPS
            size = 1 if left <= 0 else min(left, spec.prefill_chunk - (position // spec.prefill_chunk) % 3)
            logits = engine.forward(ids[position : position + size], position)
            position += size
            differences.append(np.abs(logits - expected[position - 1]).max())
        engine.close()
    # numpy's largest is NaN if one of them is; Python's is not.
    return Difference(float(np.max(differences)), float(np.abs(expected).max()))
