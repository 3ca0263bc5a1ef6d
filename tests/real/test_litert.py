"""LiteRT: the same proofs as for ExecuTorch, on the same tiny architectures."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema

from satchel.backends.registry import BACKENDS
from satchel.errors import BundleError, InternalError
from satchel.formats import tflite
from satchel.lower import litert
from satchel.lower.litert import lower, lower_dequantized, lower_skeleton
from satchel.lower.placeholder import TiedPlaceholders
from satchel.quantize.plan import TensorPlan
from satchel.runtimes.litert import LiteRtEngine
from satchel.skeleton.table import Skeleton, read_skeleton
from satchel.validate.graph import prove
from tiny_specs import FAMILIES, TINY, largest_difference_in_chunks, other_weights, placeholders, spec

OFFSET = TensorPlan("int4", 32, True)
QWEN = {**TINY, **FAMILIES["qwen3"]}
GEMMA = {**TINY, **FAMILIES["gemma3"]}


def test_a_window_one_too_wide_fails_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    real = litert._Call.attend

    def wider(self: Any, *args: Any) -> Any:
        *first, window = args
        return real(self, *first, None if window is None else window + 1)

    monkeypatch.setattr(litert._Call, "attend", wider)
    assert not prove(spec(GEMMA, OFFSET), BACKENDS["litert"]).passed


def test_lowering_needs_no_tensorflow() -> None:
    """litert-torch's own export of Hugging Face models imports it; its converter, which is all we use, does not."""
    assert find_spec("tensorflow") is None
    assert "litert_torch.generative.export_hf" not in sys.modules
    lower_dequantized(spec(QWEN, TensorPlan("float")), placeholders(QWEN, TensorPlan("float")))
    assert "litert_torch.generative.export_hf" not in sys.modules


@pytest.fixture(scope="module")
def weights() -> TiedPlaceholders:
    return other_weights(spec(QWEN, OFFSET))


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    folder = tmp_path_factory.mktemp("skeleton")
    lower_skeleton(spec(QWEN, OFFSET), folder, {})
    return read_skeleton(folder)


@pytest.fixture(scope="module")
def program(skeleton: Skeleton, weights: TiedPlaceholders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / tflite.PROGRAM_FILE
    tflite.fill(skeleton, weights, path)
    return path


def test_a_filled_skeleton_equals_a_lowering_of_the_same_weights(
    skeleton: Skeleton, weights: TiedPlaceholders, program: Path
) -> None:
    """Twice lowered, so that two exports give the same bytes too."""
    once = lower(spec(QWEN, OFFSET), weights)
    assert program.read_bytes() == bytes(once)
    assert lower(spec(QWEN, OFFSET), weights) == once
    assert all(tflite.read_back(program, skeleton.slots, weights).values())


def test_the_skeleton_holds_no_weights_and_stores_each_once(skeleton: Skeleton, tmp_path: Path) -> None:
    path = tmp_path / tflite.PROGRAM_FILE
    skeleton.unpack(path)
    data = path.read_bytes()
    assert {slot.tensor for slot in skeleton.slots} == set(spec(QWEN, OFFSET).plan.tensors)
    assert len({(slot.tensor, slot.part) for slot in skeleton.slots}) == len(skeleton.slots)
    assert all(not any(data[slot.offset : slot.offset + slot.bytes]) for slot in skeleton.slots)
    buffers = [slot for slot in skeleton.slots if slot.packing != "float32" or slot.part == "values"]
    assert all(slot.offset % 16 == 0 for slot in buffers)


def test_weights_have_their_real_types_in_both_signatures(program: Path) -> None:
    """In the words of LiteRT's own reader."""
    model = schema.ModelT.InitFromPackedBuf(program.read_bytes(), 0)
    assert [signature.signatureKey for signature in model.signatureDefs] == [b"prefill_16", b"decode"]
    linears, scales = 7 * QWEN["num_hidden_layers"], set()
    for graph, expected in zip(model.subgraphs, (linears - 5, linears), strict=True):
        # Prefill gives no logits, so what follows the last layer's keys and values isn't in it.
        constants = [tensor for tensor in graph.tensors if model.buffers[tensor.buffer].data is not None]
        int4 = [tensor for tensor in constants if tensor.type == schema.TensorType.INT4]
        assert len(int4) == expected
        for tensor in int4:
            assert tensor.quantization.details.blockSize == 32
            assert graph.tensors[tensor.quantization.details.scales].type == schema.TensorType.FLOAT16
        int8 = [tensor for tensor in constants if tensor.type == schema.TensorType.INT8]
        assert len(int8) == expected + 1  # offsets, and the table
        assert all(len(tensor.quantization.scale) == tensor.shape[0] for tensor in int8)
        scales |= {tensor.buffer for tensor in int8}
        matrices = [tensor for tensor in constants if tensor.shape is not None and len(tensor.shape) == 2]
        assert not [tensor for tensor in matrices if tensor.type == schema.TensorType.FLOAT32]
    assert len(scales) == linears + 1  # both signatures point to the same buffers


def test_what_a_recipe_wanted_quantized_and_is_not_is_refused(weights: TiedPlaceholders) -> None:
    floats = lower_dequantized(spec(QWEN, OFFSET), weights)
    with pytest.raises(InternalError, match=r"codes of .* is not in the lowered program"):
        tflite.find_slots(floats, weights, list(weights.plan.tensors))


def test_chunks_of_every_length_up_to_the_end_of_the_context(tmp_path: Path) -> None:
    """Also where padding a chunk would reach past the context, and after rewinding."""
    floats = TensorPlan("float")
    path = tmp_path / tflite.PROGRAM_FILE
    tiny = spec(QWEN, floats, context_length=24, prefill_chunk=8)
    path.write_bytes(lower(tiny, placeholders(QWEN, floats)))
    engine = LiteRtEngine(path, threads=1)
    assert (engine.context_length, engine.prefill_chunk, engine.vocab_size) == (24, 8, QWEN["vocab_size"])
    assert largest_difference_in_chunks(engine, 8) < 1e-5


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / tflite.PROGRAM_FILE
    path.write_bytes(b"nonsense" * 100)
    with pytest.raises(BundleError, match=r"model\.tflite"):
        LiteRtEngine(path)


# Handlers run last in, first out: the one that speaks is there before the runtime is, so it would be the one silenced.
_AT_THE_END = """
import atexit, sys
atexit.register(lambda: print("still heard", file=sys.stderr))
import satchel.runtimes.litert
"""


def test_a_program_that_imports_the_runtime_keeps_its_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", _AT_THE_END], capture_output=True, text=True, check=True)
    assert "still heard" in done.stderr


def test_the_command_ends_without_a_word_of_the_library() -> None:
    """The same after the command line's own last word, from a process that has the library loaded."""
    code = _AT_THE_END + "from satchel.cli import entry; sys.argv[1:] = ['--version']; entry()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("satchel")
    assert done.stderr == ""
