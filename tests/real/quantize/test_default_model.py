"""The default model from its GGUF file to codes: transformers' weights, the file's own codes, little memory."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from satchel.cache import Cache
from satchel.compile.assets import text_assets
from satchel.console import Console
from satchel.quantize.planning import plan_for
from satchel.quantize.quantize import quantize
from satchel.quantize.recipe import recipes
from satchel.quantize.stored import StoredQuantizedCheckpoint, open_quantized
from satchel.source.gguf.checkpoint import GgufCheckpoint, open_gguf
from satchel.source.support import verify
from satchel.tools import Tools
from satchel.validate.texts import evaluation_texts
from satchel.workshop import Workshop

# Runs in a process of its own; the last line is its peak resident memory in MB. /proc rather than getrusage, which on
# Linux also counts what the parent had when it started us.
_QUANTIZE = """
import sys
from pathlib import Path
from satchel.cli import main
assert main(["quantize", sys.argv[1], "--recipe", "int4", "--out", sys.argv[2], "--json"]) == 0
if sys.platform == "linux":
    status = Path("/proc/self/status").read_text()
    peak_mb = int(status.split("VmHWM:")[1].split()[0]) // 1024
else:
    import resource
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
assert "torch" not in sys.modules
sys.stderr.write(f"\\n{peak_mb}")
"""


@pytest.fixture(scope="module")
def checkpoint(default_gguf: Path) -> GgufCheckpoint:
    return open_gguf(default_gguf)


@pytest.fixture(scope="module")
def quantized(checkpoint: GgufCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> StoredQuantizedCheckpoint:
    folder = tmp_path_factory.mktemp("quantized")
    return quantize(checkpoint, plan_for(recipes()["int4"], checkpoint), folder)


def test_weights_and_config_are_what_transformers_reads(checkpoint: GgufCheckpoint, default_gguf: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(default_gguf.parent, gguf_file=default_gguf.name)
    theirs = model.state_dict()
    assert set(theirs) - set(checkpoint.tensors) == {"lm_head.weight"}
    for name in checkpoint.tensors:
        np.testing.assert_array_equal(checkpoint.read(name), theirs[name].float().numpy(), err_msg=name)
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        assert checkpoint.config[key] == getattr(model.config, key)
    assert checkpoint.config["max_position_embeddings"] == model.config.max_position_embeddings
    assert np.float32(checkpoint.config["rms_norm_eps"]) == np.float32(model.config.rms_norm_eps)


def test_every_linear_layer_keeps_its_own_codes(
    checkpoint: GgufCheckpoint, quantized: StoredQuantizedCheckpoint
) -> None:
    assert Counter(quantized.origin.values()) == {"transcoded": 210, "float": 61, "requantized": 1}
    for name in (name for name, origin in quantized.origin.items() if origin == "transcoded"):
        tensor, source = quantized.read(name), checkpoint.codes(name)
        assert source is not None
        assert tensor.codes is not None and tensor.scale is not None and tensor.offset is not None
        np.testing.assert_array_equal(tensor.codes, source.codes.astype(np.int8) - 8)
        blocks = tensor.codes.reshape(*tensor.scale.shape, 32) * tensor.scale[..., None] + tensor.offset[..., None]
        weight = checkpoint.read(name)
        # Only the scale is rounded, to bfloat16: by at most 2^-8 of it, times the codes' distance from their mean.
        assert (np.abs(blocks - weight.reshape(blocks.shape)) <= tensor.scale[..., None] * 15 * 2.0**-8).all()


def test_the_command_needs_little_memory_and_no_torch(
    default_gguf: Path, quantized: StoredQuantizedCheckpoint, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _QUANTIZE, str(default_gguf), str(tmp_path / "q")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stderr.splitlines()[-1]) < 400
    assert open_quantized(tmp_path / "q").sha256 == quantized.sha256


def test_the_evaluation_texts_are_many_and_long_enough(checkpoint: GgufCheckpoint, tmp_path: Path) -> None:
    assets = text_assets(verify(checkpoint), Workshop(Cache(tmp_path), Tools(), Console.quiet()))
    evaluation = evaluation_texts(assets.tokenizer, assets.program, 2048)
    assert sum(len(text.ids) for text in evaluation.texts) >= 6000
    assert len(evaluation.texts) >= 12
    assert min(len(text.ids) for text in evaluation.texts) >= 150
    assert len(evaluation.whole.ids) == 2048
    assert len(set(evaluation.whole.ids.tolist())) > 600  # not one paragraph over and over
