"""Graph proof: the lowered program computes Hugging Face's model, whatever the weights are.

The architecture, cut to one layer of each kind (two at least) and a small vocabulary, is lowered twice with random
weights: as plain float32, and in the recipe's own decomposition (offset linears and all) evaluated in float32 from
dequantized weights. Both must give Hugging Face's logits to 1e-4, in prefill and decode and past any sliding window.
int8 activations would hide a wrong wire behind their rounding (they turn 1e-7 at the input into 2 at the output), so
they play no part here; `behaviour` measures them.
"""

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.backends.backend import Backend, Program
from satchel.lower.decoder import parameter_shapes
from satchel.lower.placeholder import TiedPlaceholders
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.report.figures import GRAPH_TOLERANCE
from satchel.skeleton.spec import ProgramSpec
from satchel.source.checkpoint import HEAD
from satchel.validate.reference import Reference

_VOCABULARY = 512
_LAYERS = 2
_DECODE_STEPS = 12


@dataclass(frozen=True)
class GraphProof:
    """Largest absolute difference of logits from Hugging Face's, and what it was measured on.

    scale: largest absolute logit of the reference, for judging the differences. positions: how far the text went.
    """

    plain_max_abs: float
    decomposed_max_abs: float
    scale: float
    layers: int
    positions: int

    @property
    def max_abs(self) -> float:
        return max(self.plain_max_abs, self.decomposed_max_abs)

    @property
    def passed(self) -> bool:
        return self.max_abs <= GRAPH_TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "max_abs": self.max_abs, "tolerance": GRAPH_TOLERANCE}


def prove(spec: ProgramSpec, backend: Backend) -> GraphProof:
    """Lowers the cut architecture twice with the backend, runs both exactly, and compares with Hugging Face."""
    cut = cut_spec(spec)
    shapes = parameter_shapes(cut.config)
    plain = QuantPlan({name: TensorPlan("float") for name in cut.plan.tensors}, cut.plan.tied)
    ids = np.random.default_rng(7).integers(0, cut.config["vocab_size"], cut.context_length - 4)
    differences, scale = [], 0.0
    for plan in (plain, cut.plan):
        weights = TiedPlaceholders(plan, shapes, {})
        difference, scale = _compare(replace(cut, plan=plan), weights, ids, backend)
        differences.append(difference)
    return GraphProof(differences[0], differences[1], scale, cut.config["num_hidden_layers"], len(ids))


def cut_spec(spec: ProgramSpec) -> ProgramSpec:
    """The same architecture with one layer of each kind (at least two in all), a small vocabulary and a context that
    goes past its sliding window."""
    config = dict(spec.config)
    kinds = list(dict.fromkeys(config.get("layer_types") or []))
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


def _compare(
    spec: ProgramSpec, weights: QuantizedCheckpoint, ids: NDArray[np.int64], backend: Backend
) -> tuple[float, float]:
    """(largest absolute difference, largest absolute reference logit) over chunked prefill and decode."""
    program = backend.lower_dequantized(spec, weights)
    expected = Reference(spec.config, lambda name: backend.weight(weights.read(name))).logits(ids)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program"
        _write(path, program)
        engine = backend.exact_runtime()(path, None)
        position = 0
        while position < len(ids):
            # Chunks of several lengths, the last tokens one by one.
            left = len(ids) - position - _DECODE_STEPS
            size = 1 if left <= 0 else min(left, spec.prefill_chunk - (position // spec.prefill_chunk) % 3)
            logits = engine.forward(ids[position : position + size], position)
            position += size
            worst = max(worst, float(np.abs(logits - expected[position - 1]).max()))
        engine.close()
    return worst, float(np.abs(expected).max())


def _write(path: Path, program: Program) -> None:
    if isinstance(program, bytes | bytearray):
        path.write_bytes(program)
        return
    for name, contents in program.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(contents)
