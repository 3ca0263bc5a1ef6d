"""LiteRT: the same proofs as for ExecuTorch, on the same tiny architectures."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from satchel.errors import BundleError, InternalError
from satchel.formats import tflite
from satchel.lower.decoder import parameter_shapes
from satchel.lower.litert import lower_float, lower_skeleton
from satchel.lower.litert_types import declare_types
from satchel.lower.placeholder import TiedPlaceholders
from satchel.quantize.plan import TensorPlan
from satchel.runtimes.litert import LiteRtEngine
from satchel.skeleton import Skeleton, read_skeleton
from satchel.validate.graph import Subject, prove
from tiny_specs import FAMILIES, TINY, spec

OFFSET = TensorPlan("int4", 32, True)
SUBJECT = Subject(
    lower=lambda spec, weights: lower_float(spec, weights)[0],
    carried_weight=tflite.carried_weight,
    open_engine=LiteRtEngine,
    program_file=tflite.PROGRAM_FILE,
)
QWEN = {**TINY, **FAMILIES["qwen3"]}


def test_litert_torch_still_needs_the_tensorflow_shim() -> None:
    """When this fails, lower/tensorflow_shim.py can go."""
    command = [sys.executable, "-c", "import litert_torch.generative.export_hf.core.export_lib"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "No module named 'tensorflow'" in done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_graph_proof_past_the_sliding_window(family: str) -> None:
    config = {**TINY, **FAMILIES[family]}
    proof = prove(spec(config, OFFSET), SUBJECT)
    assert proof.passed
    assert proof.positions > 3 * (config.get("sliding_window") or 1)


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    folder = tmp_path_factory.mktemp("skeleton")
    lower_skeleton(spec(QWEN, OFFSET), folder, {})
    return read_skeleton(folder)


class Weights(TiedPlaceholders):
    """Weights that differ from the placeholders."""

    def read(self, name: str) -> Any:
        tensor = super().read(name)
        if tensor.values is not None:
            return replace(tensor, values=tensor.values * np.float32(1.25))
        offset = None if tensor.offset is None else np.ascontiguousarray(tensor.offset[::-1])
        rolled = np.ascontiguousarray(np.roll(tensor.codes, 1, axis=0))
        return replace(tensor, codes=rolled, scale=np.ascontiguousarray(tensor.scale[::-1]), offset=offset)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return Weights(spec(QWEN, OFFSET).plan, parameter_shapes(QWEN), {})


def test_a_filled_skeleton_equals_an_export_of_the_same_weights(
    skeleton: Skeleton, weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / tflite.PROGRAM_FILE
    tflite.fill(skeleton, weights, path)
    exported, _ = declare_types(lower_float(spec(QWEN, OFFSET), weights)[0], weights, list(weights.plan.tensors))
    assert path.read_bytes() == bytes(exported)
    assert all(tflite.read_back(path, skeleton.slots, weights).values())


def test_weights_have_their_real_types_in_both_signatures(skeleton: Skeleton, weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / tflite.PROGRAM_FILE
    tflite.fill(skeleton, weights, path)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    linears = 7 * QWEN["num_hidden_layers"]
    counts = []
    for graph in (model.subgraphs[signature.subgraphIndex] for signature in model.signatureDefs):
        constants = [tensor for tensor in graph.tensors if model.buffers[tensor.buffer].data is not None]
        counts.append(sum(tensor.type == schema.TensorType.INT4 for tensor in constants))
        tables = [tensor for tensor in constants if tensor.type == schema.TensorType.INT8]
        assert {model.buffers[tensor.buffer].data.size for tensor in tables} == {160 * 64}
        floats = [
            t for t in constants if t.type == schema.TensorType.FLOAT32 and t.shape is not None and len(t.shape) == 2
        ]
        assert not [tensor for tensor in floats if min(tensor.shape) > 3]  # but offsets, two or three wide here
    # Prefill gives no logits, so what follows the last layer's keys and values isn't in it.
    assert sorted(counts) == [linears - 5, linears]
    assert all(slot.offset % 16 == 0 for slot in skeleton.slots if slot.part in ("codes", "offset"))
    tables = [slot for slot in skeleton.slots if slot.tensor == "model.embed_tokens.weight"]
    assert sum(slot.part == "codes" for slot in tables) == 1  # the tied table is stored once
    assert sum(slot.part == "scale" for slot in tables) > 1  # and its scales in every tensor that uses it


def test_a_weight_that_the_export_lost_is_refused(weights: Weights) -> None:
    program, _ = lower_float(spec(QWEN, OFFSET), weights)
    other = TiedPlaceholders(weights.plan, weights.shapes, {})
    with pytest.raises(InternalError, match="not in the exported"):
        declare_types(program, other, list(other.plan.tensors))


def test_two_exports_give_the_same_bytes(weights: Weights) -> None:
    assert lower_float(spec(QWEN, OFFSET), weights)[0] == lower_float(spec(QWEN, OFFSET), weights)[0]


def test_chunks_of_every_length_up_to_the_end_of_the_context(weights: Weights, tmp_path: Path) -> None:
    """Also where padding a chunk would reach past the context."""
    float_spec = spec(QWEN, TensorPlan("float"), context_length=24, prefill_chunk=8)
    path = tmp_path / tflite.PROGRAM_FILE
    path.write_bytes(lower_float(float_spec, None)[0])
    engine = LiteRtEngine(path, threads=1)
    assert (engine.context_length, engine.prefill_chunk, engine.vocab_size) == (24, 8, QWEN["vocab_size"])
    ids = np.random.default_rng(6).integers(0, QWEN["vocab_size"], 24)
    one_by_one = [engine.forward(ids[i : i + 1], i) for i in range(24)]
    for length in range(1, 9):
        for start in range(0, 24, length):
            chunk = ids[start : start + length]
            logits = engine.forward(chunk, start)
            assert np.abs(logits - one_by_one[start + len(chunk) - 1]).max() < 1e-5


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / tflite.PROGRAM_FILE
    path.write_bytes(b"nonsense" * 100)
    with pytest.raises(BundleError, match=r"model\.tflite"):
        LiteRtEngine(path)
