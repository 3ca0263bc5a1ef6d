"""Core ML: the same proofs as for the other backends, on the same tiny architectures."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from satchel.backends.registry import BACKENDS, NATIVE_OFFSET, VARIANTS
from satchel.errors import InternalError, LoweringError
from satchel.formats import mlpackage, mlpackage_native
from satchel.formats.carried import carried_weight
from satchel.formats.mlpackage_blobs import BlobFile
from satchel.formats.mlpackage_program import Immediate, Package
from satchel.hashing import content_bytes, content_sha256
from satchel.lower import coreml
from satchel.lower.coreml import lower, lower_dequantized, lower_skeleton
from satchel.lower.coreml_messages import unknown_messages
from satchel.lower.coreml_modules import SafeRMSNorm, make_safe_for_float16
from satchel.lower.decoder import parameter_shapes
from satchel.lower.placeholder import TiedPlaceholders
from satchel.quantize.plan import TensorPlan
from satchel.runtimes.coreml import CoreMlEngine
from satchel.skeleton.table import Skeleton, read_skeleton
from satchel.validate.behaviour import measure
from satchel.validate.expected import Expected
from satchel.validate.fidelity import pooled
from satchel.validate.graph import prove
from satchel.validate.reference import Reference
from satchel.validate.texts import WHOLE_CONTEXT, Evaluation, Text
from tiny_specs import FAMILIES, TINY, other_weights, placeholders, spec

OFFSET = TensorPlan("int4", 32, True)
QWEN = {**TINY, **FAMILIES["qwen3"]}
GEMMA = {**TINY, **FAMILIES["gemma3"]}


# --- graph ----------------------------------------------------------------------------------------------------------


def test_a_window_one_too_wide_fails_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    real = coreml._Call._mask
    monkeypatch.setattr(coreml._Call, "_mask", lambda self, window: real(self, window and window + 1))
    assert not prove(spec(GEMMA, OFFSET), BACKENDS["coreml"]).passed


def test_offsets_inside_the_weights_are_proven_too(tmp_path: Path) -> None:
    one = spec(QWEN, OFFSET)
    assert prove(one, VARIANTS["coreml", NATIVE_OFFSET]).passed
    (tmp_path / "skeleton").mkdir()
    lower_skeleton(one, tmp_path / "skeleton", {}, native_offset=True)
    found = read_skeleton(tmp_path / "skeleton")
    theirs = other_weights(one)
    mlpackage_native.fill(found, theirs, tmp_path / "p")
    assert mlpackage_native.read_back(tmp_path / "p", found.slots, theirs) == dict.fromkeys(one.plan.tensors, True)
    lowered = lower(one, theirs, native_offset=True)
    assert {name: (tmp_path / "p" / name).read_bytes() for name in lowered} == lowered
    assert not any(slot.part.startswith("offset") for slot in found.slots)


def test_chunks_of_every_length_up_to_the_end_of_the_context(tmp_path: Path) -> None:
    """As an app feeds them, and after rewinding; in float16, chunks of different lengths round alike."""
    tiny = spec(QWEN, OFFSET, context_length=24, prefill_chunk=8)
    write(tmp_path / "p", lower(tiny, placeholders(QWEN, OFFSET)))
    engine = CoreMlEngine(tmp_path / "p")
    assert (engine.context_length, engine.prefill_chunk, engine.vocab_size) == (24, 8, QWEN["vocab_size"])
    ids = np.random.default_rng(6).integers(0, QWEN["vocab_size"], 24)
    one_by_one = [engine.forward(ids[i : i + 1], i) for i in range(24)]
    for length in (2, 3, 8, 24):
        for start in range(0, 24, length):
            chunk = ids[start : start + length]
            logits = engine.forward(chunk, start)
            assert np.abs(logits - one_by_one[start + len(chunk) - 1]).max() < 0.05


def test_the_plain_norm_fails_where_the_safe_one_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A residual stream like a real model's: its squares are beyond float16, so the plain norm gives nothing."""
    floats, llama = TensorPlan("float"), {**TINY, **FAMILIES["llama"]}
    large = Large(spec(llama, floats).plan, parameter_shapes(llama), {})
    text = Text("random", np.random.default_rng(3).integers(0, llama["vocab_size"], 40))
    reference = Reference(llama, lambda name: carried_weight(large.read(name)))
    evaluation = Evaluation((text,), Text(WHOLE_CONTEXT, text.ids), text)
    bits = {one.name: 0.0 for one in evaluation.all}
    hidden = {one.name: reference.hidden(one.ids) for one in evaluation.all}
    expected = Expected(evaluation, hidden, bits, reference.logits_of)

    def divergence(folder: Path) -> float:
        write(folder, lower(spec(llama, floats), large))
        engine = CoreMlEngine(folder)
        with np.errstate(all="ignore"):
            return pooled(measure(engine, expected)).kl_mean

    assert divergence(tmp_path / "safe") < 0.001
    monkeypatch.setattr(SafeRMSNorm, "forward", plain_norm)
    assert not divergence(tmp_path / "plain") < 0.1


class Large(TiedPlaceholders):
    """Placeholders whose embedding makes a residual stream of some thousands."""

    def read(self, name: str) -> Any:
        tensor = super().read(name)
        if name != "model.embed_tokens.weight":
            return tensor
        return replace(tensor, values=tensor.values * np.float32(8000))


def plain_norm(self: SafeRMSNorm, x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.root_epsilon**2) * self.gain


def write(package: Path, files: mlpackage.Files) -> None:
    for name, contents in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(contents)


# --- fill -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights() -> TiedPlaceholders:
    return other_weights(spec(GEMMA, OFFSET))


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    folder = tmp_path_factory.mktemp("skeleton")
    lower_skeleton(spec(GEMMA, OFFSET), folder, {})
    return read_skeleton(folder)


@pytest.fixture(scope="module")
def program(skeleton: Skeleton, weights: TiedPlaceholders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / mlpackage.PROGRAM_FILE
    mlpackage.fill(skeleton, weights, path)
    return path


def test_a_filled_skeleton_equals_a_lowering_of_the_same_weights(
    skeleton: Skeleton, weights: TiedPlaceholders, program: Path
) -> None:
    """Twice lowered, so that two conversions give the same bytes too, whatever coremltools puts into a manifest."""
    once = lower(spec(GEMMA, OFFSET), weights)
    found = {file.relative_to(program).as_posix(): file.read_bytes() for file in program.rglob("*") if file.is_file()}
    assert found == dict(once)
    assert lower(spec(GEMMA, OFFSET), weights) == once
    equal = mlpackage.read_back(program, skeleton.slots, weights)
    assert equal == dict.fromkeys(weights.plan.tensors, True)


def test_another_tensor_does_not_read_back(skeleton: Skeleton, program: Path) -> None:
    others = placeholders(GEMMA, OFFSET)
    assert not any(mlpackage.read_back(program, skeleton.slots, others).values())


@pytest.mark.parametrize("linear", [TensorPlan("int8"), TensorPlan("float")])
def test_the_other_schemes_fill_too(tmp_path: Path, linear: TensorPlan) -> None:
    config = {**TINY, **FAMILIES["llama"]}
    (tmp_path / "skeleton").mkdir()
    lower_skeleton(spec(config, linear), tmp_path / "skeleton", {})
    found = read_skeleton(tmp_path / "skeleton")
    theirs = other_weights(spec(config, linear))
    mlpackage.fill(found, theirs, tmp_path / "p")
    assert all(mlpackage.read_back(tmp_path / "p", found.slots, theirs).values())
    assert (tmp_path / "p" / mlpackage.WEIGHTS).read_bytes() == lower(spec(config, linear), theirs)[mlpackage.WEIGHTS]


def test_the_skeleton_holds_no_weights_and_stores_each_once(skeleton: Skeleton, tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    skeleton.unpack(path)
    data = path.read_bytes()
    assert {slot.tensor for slot in skeleton.slots} == set(spec(GEMMA, OFFSET).plan.tensors)
    assert len({(slot.tensor, slot.part) for slot in skeleton.slots}) == len(skeleton.slots)
    assert all(not any(data[slot.offset : slot.offset + slot.bytes]) for slot in skeleton.slots)
    assert all(slot.offset % 64 == 0 for slot in skeleton.slots)


def test_weights_have_their_real_types_and_nothing_else_is_large(program: Path) -> None:
    package = Package.open(program)
    (function,) = package.program.functions.values()
    blobs = BlobFile(program / mlpackage.WEIGHTS)
    data = [
        blobs.region(value.offset).dtype
        for operation, part, value in function.blobs()
        if operation.type == "constexpr_blockwise_shift_scale" and part == "data"
    ]
    linears = 7 * GEMMA["num_hidden_layers"]
    assert data.count("int4") == linears
    assert data.count("int8") == linears + 1  # offsets, and the table, which embedding and head share
    matrices = [
        operation
        for operation, _, value in function.blobs()
        if operation.type == "const" and len(value.type.shape) == 2 and "rotary" not in operation.outputs[0].name
    ]
    assert not matrices


def test_the_program_is_what_an_app_expects(program: Path) -> None:
    """The names and shapes of docs/coreml.md; any lengths up to the context, by default the prefill chunk."""
    (function,) = Package.open(program).program.functions.values()
    tokens, mask = function.input_features
    assert (tokens.name, tokens.dtype, tokens.shape, tokens.ranges) == ("inputIds", "int32", (1, 16), ((1, 1), (1, 96)))
    assert (mask.name, mask.dtype, mask.shape) == ("fullAttentionMask", "float16", (1, 1, 16, 16))
    assert mask.ranges == ((1, 1), (1, 1), (1, 96), (1, 96))
    assert [(one.name, one.dtype, one.shape) for one in function.state_features] == [
        (name, "float16", (3, 2, 96, 16)) for name in ("keyCache", "valueCache")
    ]
    (logits,) = function.output_features
    assert (logits.name, logits.dtype, logits.shape) == ("logits", "float16", (1, 1, GEMMA["vocab_size"]))


def test_no_constant_is_infinite(program: Path) -> None:
    """coremltools turns an open bound into the largest float32, and that into an infinite float16."""
    (function,) = Package.open(program).program.functions.values()
    constants = [
        value.value
        for operation in function.block.walk()
        for value in (*operation.attributes.values(), *(v for values in operation.inputs.values() for v in values))
        if isinstance(value, Immediate) and value.type.dtype.startswith("float")
    ]
    assert len(constants) > 10
    assert all(np.isfinite(value).all() for value in constants)


def test_what_a_recipe_wanted_quantized_and_is_not_is_refused(
    weights: TiedPlaceholders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreml, "_last_passes", lambda *_: [])
    floats = lower(spec(GEMMA, OFFSET), weights)
    with pytest.raises(InternalError, match=r"codes of .* is not in the lowered program"):
        mlpackage.find_slots(floats, weights, list(weights.plan.tensors))
    without = [name for name in weights.plan.tensors if name != "model.layers.0.mlp.up_proj.weight"]
    complete = lower_dequantized(spec(QWEN, TensorPlan("float")), placeholders(QWEN, TensorPlan("float")))
    with pytest.raises(InternalError):
        mlpackage.find_slots(complete, placeholders(QWEN, TensorPlan("float")), without)


def test_a_folder_is_hashed_as_sha256sum_lists_it(program: Path) -> None:
    assert content_bytes(program) == sum(file.stat().st_size for file in program.rglob("*") if file.is_file())
    before = content_sha256(program)
    (program / "extra").touch()
    assert content_sha256(program) != before
    (program / "extra").unlink()
    assert content_sha256(program) == before


# --- float16 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e4])
def test_the_safe_norm_is_the_norm_and_stays_in_float16(scale: float) -> None:
    """The residual stream of the default model reaches 25000; its square is far beyond float16."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = LlamaRMSNorm(64, eps=1e-5)
    norm.weight = nn.Parameter(torch.rand(64) + 0.5)
    x = torch.randn(4, 64).clamp(-2, 2) * scale
    safe = SafeRMSNorm.like("norm", norm)
    assert torch.allclose(safe(x), norm(x), rtol=1e-4, atol=1e-6)
    in_float16 = safe.half()(x.half()).float()
    assert torch.allclose(in_float16, norm(x), rtol=2e-2, atol=2e-3)


def test_a_norm_of_another_kind_is_refused_not_replaced() -> None:
    class CentredRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.rand(8) + 0.5), 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - x.mean(-1, keepdim=True)) * self.weight

    model = nn.ModuleDict({"norm": CentredRMSNorm()})
    with pytest.raises(LoweringError, match="norm: CentredRMSNorm"):
        make_safe_for_float16(model, 16)


# --- messages -------------------------------------------------------------------------------------------------------


def test_lowering_says_nothing_that_is_not_known(caplog: pytest.LogCaptureFixture) -> None:
    """coremltools warns of every newer version; anything else it says would reach the user."""
    tiny = {**QWEN, "num_hidden_layers": 1}
    lower(spec(tiny, OFFSET), placeholders(tiny, OFFSET))
    assert not [record for record in caplog.records if record.name == "satchel"]


def test_what_is_not_known_surfaces(caplog: pytest.LogCaptureFixture) -> None:
    logging.disable(logging.WARNING)  # as the command line has it
    try:
        with unknown_messages() as unknown:
            logging.getLogger("coremltools").warning("Torch var keyCache is added again.")
            logging.getLogger("coremltools").warning("Weights were replaced by noise.")
            np.array([1e30], np.float32).astype(np.float16)
    finally:
        logging.disable(logging.NOTSET)
    assert unknown == ["Weights were replaced by noise.", "overflow encountered in cast"]
    assert [record.getMessage() for record in caplog.records if record.name == "satchel"] == [
        f"coremltools says: {message}" for message in unknown
    ]


def test_another_lowering_in_the_same_process_is_not_disturbed() -> None:
    """coremltools is patched while it converts, and litert-torch registers operators and decompositions: no program
    may notice another's lowering."""
    from satchel.lower import executorch, litert

    tiny = {**QWEN, "num_hidden_layers": 1}
    model, one = placeholders(tiny, OFFSET), spec(tiny, OFFSET)
    before = executorch.lower(one, model)[0], litert.lower(one, model), dict(lower(one, model))
    after = executorch.lower(one, model)[0], litert.lower(one, model), dict(lower(one, model))
    assert after == before
