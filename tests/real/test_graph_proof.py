"""The graph proof of every architecture in every format: it passes, is sharp, and misses no constant that depends on a
weight."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary
from executorch.exir.schema import Buffer
from transformers.activations import ACT2CLS

from real_shapes import shape_spec
from satchel.backends.registry import BACKENDS, NATIVE_OFFSET, VARIANTS
from satchel.errors import InternalError
from satchel.formats import mlpackage, packing, pte, tflite
from satchel.formats.carried import carried_weight
from satchel.lower import executorch, quantized
from satchel.lower.decoder import parameter_shapes
from satchel.lower.placeholder import PlaceholderWeights, TiedPlaceholders
from satchel.quantize.plan import TensorPlan
from satchel.report.figures import GRAPH_TOLERANCE
from satchel.runtimes.executorch import ExecuTorchEngine
from satchel.source.architectures import ACTIVATIONS, BY_MODEL_TYPE
from satchel.validate import graph
from satchel.validate.complete import what_no_slot_explains
from satchel.validate.graph import prove
from satchel.validate.reference import Reference
from tiny_specs import FAMILIES, TINY, spec

OFFSET = TensorPlan("int4", 32, True)
QWEN2 = {**TINY, **FAMILIES["qwen2"], "num_hidden_layers": 1}


def test_every_architecture_is_proven_here() -> None:
    assert {family["model_type"] for family in FAMILIES.values()} == set(BY_MODEL_TYPE)


INT8, FLOAT = TensorPlan("int8"), TensorPlan("float")
# Every architecture in every format, every plan in every format, and what has most that could go wrong with offsets.
PLANS = {
    "llama": {"executorch": FLOAT, "litert": OFFSET, "coreml": INT8},
    "mistral": {"executorch": OFFSET, "litert": FLOAT, "coreml": OFFSET},
    "qwen2": {"executorch": OFFSET, "litert": INT8, "coreml": FLOAT},
    "qwen3": {"executorch": INT8, "litert": OFFSET, "coreml": OFFSET},
    "gemma3": {"executorch": OFFSET, "litert": OFFSET, "coreml": OFFSET},
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_graph_proof_past_the_sliding_window(family: str, backend: str) -> None:
    config = {**TINY, **FAMILIES[family]}
    proof = prove(spec(config, PLANS[family][backend]), BACKENDS[backend])
    assert proof.incomplete == ""
    assert proof.relative <= GRAPH_TOLERANCE / 4
    assert proof.passed
    assert proof.positions > 3 * (config.get("sliding_window") or 1)
    figures = proof.as_dict()
    assert figures["complete"] is True
    assert figures["max_abs"] == max(figures["plain_max_abs"], figures["decomposed_max_abs"])


@pytest.mark.parametrize(("name", "backend"), [("gemma3-270m", "executorch"), ("gemma3-270m", "coreml")])
def test_widths_of_real_models_are_proven_too(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make verify` proves all of tests/real_shapes.py."""
    if backend != "executorch":  # whose large constants are judged by their content
        monkeypatch.setattr(graph, "what_no_slot_explains", lambda *_: "")
    proof = prove(shape_spec(name), BACKENDS[backend])
    assert proof.incomplete == ""
    assert proof.relative <= GRAPH_TOLERANCE / 2


def test_offsets_inside_core_mls_weights_are_complete() -> None:
    assert what_no_slot_explains(spec(QWEN2, OFFSET), VARIANTS["coreml", NATIVE_OFFSET]) == ""


# --- what has no slot -----------------------------------------------------------------------------------------------

BIAS = "model.layers.0.self_attn.k_proj.bias"
FORMATS: dict[str, tuple[Any, str]] = {
    "executorch": (pte, r"byte \d+, in a constant of a delegate \(128 bytes"),
    "litert": (tflite, r"byte \d+, in the constant .* of subgraph \d, float32 \[32\] \(128 bytes"),
    "coreml": (mlpackage, r"val of \S*layers_0_self_attn_k_proj\S*bias\S* \(const\)"),
}


@pytest.mark.parametrize("backend", FORMATS)
def test_a_bias_without_a_slot_fails_the_proof_with_its_place(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the format did not know that it holds biases: too small for the rule about large constants."""
    module, said = FORMATS[backend]
    real = module.find_slots
    monkeypatch.setattr(
        module, "find_slots", lambda *arguments: [slot for slot in real(*arguments) if slot.tensor != BIAS]
    )
    only_completeness(monkeypatch)
    proof = prove(spec(QWEN2, OFFSET), BACKENDS[backend])
    assert not proof.passed
    assert pytest.approx(0) == proof.relative
    assert proof.as_dict()["complete"] is False
    assert_says(proof.incomplete, said)


def test_a_weight_that_the_program_does_not_have_fails_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the logits would not show it: offsets that are left out, of a model whose logits were taken for equal."""
    monkeypatch.setattr(quantized.OffsetLinear, "forward", lambda self, x: self.codes(x))
    assert_says(
        what_no_slot_explains(spec(QWEN2, OFFSET), BACKENDS["executorch"]),
        r"^offset_codes of \S+ is not in the lowered program$",
    )


def only_completeness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits are taken for equal, without lowering for them."""
    monkeypatch.setattr(graph, "_compare", lambda *_: graph.Difference(0.0, 1.0))


def assert_says(text: str, pattern: str) -> None:
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(text)


def test_a_constant_that_is_computed_from_a_weight_fails_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a converter may do that knows the mean of a gain; a copy of the whole gain would be found as one."""

    class WithMean(torch.nn.Module):
        def __init__(self, norm: torch.nn.Module, weights: Any) -> None:
            super().__init__()
            self.norm = norm
            self.register_buffer("mean", torch.from_numpy(weights.read("model.norm.weight").values).mean().reshape(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) * self.mean

    real = executorch.install

    def with_mean(model: Any, weights: Any, *arguments: Any, **options: Any) -> None:
        real(model, weights, *arguments, **options)
        model.model.norm = WithMean(model.model.norm, weights)

    monkeypatch.setattr(executorch, "install", with_mean)
    assert_says(
        what_no_slot_explains(spec(QWEN2, OFFSET), BACKENDS["executorch"]), r"byte \d+, in a constant .*bytes at"
    )


def lowered_qwen2() -> tuple[bytearray, PlaceholderWeights]:
    one = spec(QWEN2, OFFSET)
    placeholders = PlaceholderWeights(one.plan, parameter_shapes(one.config), {})
    return executorch.lower(one, placeholders)[0], placeholders


def test_a_second_copy_of_a_weight_in_a_pte_is_refused() -> None:
    program, weights = lowered_qwen2()
    name = "model.layers.0.self_attn.q_proj.weight"
    assert weights.plan[name] == OFFSET
    codes = packing.PACKINGS["int4"].pack(weights.read(name).codes)
    parsed = deserialize_pte_binary(bytes(program))
    parsed.program.constant_buffer.append(Buffer(storage=codes))
    twice = bytes(
        serialize_pte_binary(
            parsed, extract_delegate_segments=True, segment_alignment=128, constant_tensor_alignment=16
        )
    )
    with pytest.raises(InternalError, match=f"codes of {name} is stored 2 times, not once, in the lowered program"):
        pte.find_slots(twice, weights, list(weights.names()))


def test_a_copy_in_a_segment_of_an_unknown_kind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    program, weights = lowered_qwen2()
    bias = weights.read("model.layers.0.self_attn.k_proj.bias").values
    assert bias is not None
    longer = bytes(program) + b"before it" + bias.tobytes()
    real = pte.read_layout
    others = ((len(program), len(longer) - len(program)),)
    monkeypatch.setattr(pte, "read_layout", lambda *arguments: replace(real(*arguments), others=others))
    with pytest.raises(InternalError, match=r"values of .*k_proj\.bias is stored 2 times"):
        pte.find_slots(longer, weights, list(weights.names()))


def test_a_large_constant_of_a_pte_that_is_no_weight_is_refused() -> None:
    wide = spec({**QWEN2, "intermediate_size": 2080}, OFFSET)
    program, weights = executorch.lower(wide, None)
    names = list(weights.names())
    assert pte.find_slots(program, weights, names)  # the matrices that sum blocks are larger, and known
    names.remove("model.layers.0.mlp.up_proj.weight")
    with pytest.raises(InternalError, match=r"66560 bytes at \d+ of the program belong to no weight"):
        pte.find_slots(program, weights, names)


# --- the reference --------------------------------------------------------------------------------------------------


def test_a_program_that_gives_no_numbers_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one position of many: Python's own max would not see it."""
    real: Callable[..., Any] = ExecuTorchEngine.forward

    def forward(self: Any, tokens: Any, position: int) -> Any:
        logits = real(self, tokens, position)
        return np.full_like(logits, np.nan) if 20 < position < 50 else logits

    monkeypatch.setattr(ExecuTorchEngine, "forward", forward)
    monkeypatch.setattr(graph, "what_no_slot_explains", lambda *_: "")
    proof = prove(spec(QWEN2, FLOAT), BACKENDS["executorch"])
    assert np.isnan(proof.relative)
    assert not proof.passed


def test_the_reference_in_float64_differs_by_float32_rounding_alone() -> None:
    config = {**TINY, **FAMILIES["gemma3"]}
    weights = TiedPlaceholders(spec(config, OFFSET).plan, parameter_shapes(config), {})
    ids = np.random.default_rng(3).integers(0, TINY["vocab_size"], 90)
    single, double = (
        Reference(config, lambda name: carried_weight(weights.read(name)), double=wide).logits(ids)
        for wide in (False, True)
    )
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    # Of float64 throughout: rounding anything to float32 on the way would leave its low bits zero.
    assert 0 < np.abs(single - double).max() < 1e-5 * np.abs(double).max()
    again = Reference(config, lambda name: carried_weight(weights.read(name)) * np.float32(1), double=True).logits(ids)
    assert np.array_equal(again, double)


def test_activations_that_are_converted_are_those_without_weights() -> None:
    own = {name for name, kind in ACT2CLS.items() if kind in (torch.nn.PReLU, ACT2CLS["xielu"])}
    assert set(ACTIVATIONS) <= set(ACT2CLS) - own
