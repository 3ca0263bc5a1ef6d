"""Lowering: any decoder becomes a program that computes Hugging Face's model, and filling equals lowering."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satchel.backends.registry import BACKENDS
from satchel.errors import InternalError
from satchel.formats import pte, pte_inspect
from satchel.lower.decoder import parameter_shapes
from satchel.lower.executorch import lower, lower_skeleton
from satchel.quantize.plan import TensorPlan
from satchel.report.figures import GRAPH_TOLERANCE
from satchel.runtimes.executorch import ExecuTorchEngine
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import read_skeleton
from satchel.validate.graph import cut_spec, prove
from tiny_specs import FAMILIES, TINY, largest_difference_in_chunks, other_weights, spec

ROOT = Path(__file__).parents[2]
OFFSET = TensorPlan("int4", 32, True)


def test_a_wrong_graph_fails_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offsets left out of the program, as a wiring mistake would."""
    from satchel.lower import quantized

    monkeypatch.setattr(quantized.OffsetLinear, "forward", lambda self, x: self.codes(x))
    proof = prove(spec({**TINY, **FAMILIES["llama"]}, OFFSET), BACKENDS["executorch"])
    assert proof.plain.relative <= GRAPH_TOLERANCE
    assert proof.decomposed.relative > 100 * GRAPH_TOLERANCE
    assert not proof.passed


def test_lowering_leaves_the_quantizers_operators_as_they_were() -> None:
    """What makes lowering fast is undone with it, in the dispatcher of operators too."""
    import torch
    import torchao.quantization.quant_primitives  # noqa: F401  registers the operator

    before = torch._C._dispatch_dump("torchao::choose_qparams_affine")
    config = {**TINY, **FAMILIES["llama"], "num_hidden_layers": 1}
    lower(spec(config, OFFSET), None)
    assert torch._C._dispatch_dump("torchao::choose_qparams_affine") == before


def test_a_model_that_iterates_over_a_set_of_names_gives_the_same_bytes_in_every_process() -> None:
    """transformers' Gemma 3 does; with another hash of strings its graph has another order."""
    program = (
        "import hashlib, sys; sys.path[:0] = ['tests']\n"
        "from satchel import cli\n"
        "def main():\n"
        "    from satchel.lower.executorch import lower\n"
        "    from satchel.quantize.plan import TensorPlan\n"
        "    from tiny_specs import FAMILIES, TINY, spec\n"
        "    gemma = spec({**TINY, **FAMILIES['gemma3']}, TensorPlan('int4', 32, True))\n"
        "    print('sha256', hashlib.sha256(lower(gemma, None)[0]).hexdigest())\n"
        "    return 0\n"
        "cli.main = main\n"
        "cli.entry()\n"
    )
    sums = set()
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
        )
        sums.add(next(line for line in run.stdout.splitlines() if line.startswith("sha256")))
    assert len(sums) == 1


def test_the_cut_keeps_one_layer_of_each_kind() -> None:
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    config = {**TINY, **FAMILIES["gemma3"], "num_hidden_layers": 12, "layer_types": kinds * 2, "vocab_size": 4000}
    cut = cut_spec(spec(config, OFFSET, context_length=128))
    assert cut.config["layer_types"] == ["sliding_attention", "full_attention"]
    assert cut.config["num_hidden_layers"] == 2
    assert cut.config["vocab_size"] == 512
    assert cut.context_length > cut.config["sliding_window"]


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({"model_type": "gemma3_text", "sliding_window_pattern": 6}, ["sliding_attention", "full_attention"]),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 9},
            ["full_attention", "sliding_attention"],
        ),
    ],
)
def test_the_cut_keeps_kinds_that_the_config_does_not_list(config: dict[str, Any], kinds: list[str]) -> None:
    """The first layers of both are all alike, and the list of all layers is transformers' own."""
    whole = {**TINY, "num_hidden_layers": 12, "sliding_window": 8, **config}
    assert cut_spec(spec(whole, OFFSET, context_length=128)).config["layer_types"] == kinds


@dataclass(frozen=True)
class Lowered:
    spec: ProgramSpec
    folder: Path


@pytest.fixture(scope="module")
def tiny_skeleton(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    folder = tmp_path_factory.mktemp("skeleton")
    tiny = spec({**TINY, **FAMILIES["qwen3"]}, OFFSET)
    lower_skeleton(tiny, folder, {"max_abs": 0.0})
    return Lowered(tiny, folder)


def test_a_filled_skeleton_equals_a_lowering_of_the_same_weights(tiny_skeleton: Lowered, tmp_path: Path) -> None:
    weights = other_weights(tiny_skeleton.spec)
    skeleton = read_skeleton(tiny_skeleton.folder).telling(tiny_skeleton.spec.bos_id, tiny_skeleton.spec.stop_ids)
    path = tmp_path / pte.PROGRAM_FILE
    pte.fill(skeleton, weights, path)
    lowered, _ = lower(tiny_skeleton.spec, weights)
    assert path.read_bytes() == bytes(lowered)
    assert all(pte.read_back(path, skeleton.slots, weights).values())


@pytest.mark.parametrize(("bos", "stops", "told"), [(0, (7, 9), {7, 9}), (None, (), {-1})])
def test_other_ids_are_told_by_the_same_skeleton(
    tiny_skeleton: Lowered, tmp_path: Path, bos: int | None, stops: tuple[int, ...], told: set[int]
) -> None:
    from executorch.runtime import Runtime

    skeleton = read_skeleton(tiny_skeleton.folder).telling(bos, stops)
    path = tmp_path / pte.PROGRAM_FILE
    pte.fill(skeleton, other_weights(tiny_skeleton.spec), path)
    assert skeleton.difference(path, path) == ""
    program = Runtime.get().load_program(path)
    ids = {name: program.load_method(name).execute([]) for name in ("get_bos_id", "get_eos_ids")}
    assert (ids["get_bos_id"], set(ids["get_eos_ids"])) == ([-1 if bos is None else bos], told)


def test_the_skeleton_holds_no_weights(tiny_skeleton: Lowered, tmp_path: Path) -> None:
    skeleton = read_skeleton(tiny_skeleton.folder)
    path = tmp_path / pte.PROGRAM_FILE
    skeleton.unpack(path)
    data = path.read_bytes()
    assert {slot.tensor for slot in skeleton.slots} == set(parameter_shapes(tiny_skeleton.spec.config))
    assert all(not any(data[slot.offset : slot.offset + slot.bytes]) for slot in skeleton.slots)


def test_linears_are_four_bits_in_the_delegates_own_words(tiny_skeleton: Lowered, tmp_path: Path) -> None:
    path = tmp_path / pte.PROGRAM_FILE
    pte.fill(read_skeleton(tiny_skeleton.folder), other_weights(tiny_skeleton.spec), path)
    linears = [tensor for tensor in pte_inspect.tensors(path) if tensor.used_as == "linear"]
    assert sum(tensor.dtype == "int4" for tensor in linears) == 2 * 7


def test_patches_change_no_output(tmp_path: Path) -> None:
    tiny = spec({**TINY, **FAMILIES["qwen3"], "num_hidden_layers": 1}, OFFSET)
    weights = other_weights(tiny)
    engines = []
    for fast in (True, False):
        path = tmp_path / f"{fast}.pte"
        path.write_bytes(lower(tiny, weights, fast=fast)[0])
        engines.append(ExecuTorchEngine(path, threads=1))
    ids = np.random.default_rng(5).integers(0, TINY["vocab_size"], 40)
    for start, end in ((0, 16), (16, 32), (32, 33), (33, 40)):
        fast_logits, plain_logits = (engine.forward(ids[start:end], start) for engine in engines)
        assert np.array_equal(fast_logits, plain_logits)


def test_every_chunk_length_at_any_position(tmp_path: Path) -> None:
    """Prefill in chunks of every length gives the logits of feeding one token at a time, up to the full context."""
    tiny = spec({**TINY, **FAMILIES["qwen3"]}, TensorPlan("float"), context_length=48, prefill_chunk=8)
    path = tmp_path / pte.PROGRAM_FILE
    path.write_bytes(lower(tiny, other_weights(tiny))[0])
    engine = ExecuTorchEngine(path, threads=1)
    assert (engine.context_length, engine.prefill_chunk, engine.vocab_size) == (48, 8, TINY["vocab_size"])
    assert largest_difference_in_chunks(engine, 8) < 1e-5


def test_two_lowerings_give_the_same_bytes(tiny_skeleton: Lowered, tmp_path: Path) -> None:
    """And a part whose bytes occur twice is refused: equal tensors are stored once and would share a slot."""
    program, placeholders = lower(tiny_skeleton.spec, None)
    path = tmp_path / pte.PROGRAM_FILE
    pte.fill(read_skeleton(tiny_skeleton.folder), placeholders, path)  # what the skeleton was lowered from
    assert path.read_bytes() == bytes(program)
    name = "model.layers.0.self_attn.q_proj.weight"
    with pytest.raises(InternalError, match="shares its bytes"):
        pte.find_slots(program, placeholders, [name, name])
