"""The float reference, read in two halves, is transformers' own model; and what it holds in memory is bounded."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satchel.cache import Cache
from satchel.console import Console
from satchel.source.checkpoint import ArrayCheckpoint, SourceInfo, TokenizerAssets
from satchel.tools import Tools
from satchel.validate import reference_pass
from satchel.validate.expected import ROWS
from satchel.validate.reference import Reference
from satchel.validate.reference_pass import expected
from satchel.validate.texts import WHOLE_CONTEXT, Evaluation, Text
from satchel.workshop import Workshop

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 160,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {},
    "gemma3_text": {"sliding_window": 8, "final_logit_softcapping": 3.0},  # the cap is behind the head
}
SOURCE = SourceInfo("directory", "small", None, "ab" * 32, None)
TOKENIZER = TokenizerAssets("{}", None, None, None, None, ())


def model(family: str, tied: bool) -> tuple[dict[str, Any], Any]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = {"model_type": family, "tie_word_embeddings": tied, **SMALL, **FAMILIES[family]}
    values = {name: value for name, value in config.items() if name != "model_type"}
    torch.manual_seed(5)
    parsed = AutoConfig.for_model(family, **values)
    return config, AutoModelForCausalLM.from_config(parsed, attn_implementation="eager", dtype=torch.float32).eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_halves_together_are_the_model(family: str, tied: bool) -> None:
    import torch

    config, theirs = model(family, tied)
    weights = {name: value.detach().numpy() for name, value in theirs.state_dict().items()}
    ids = np.arange(40) * 7 % SMALL["vocab_size"]
    with torch.no_grad():
        logits = theirs(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    ours = Reference(config, lambda name: weights[name])
    hidden = ours.hidden(ids)
    head = Reference(config, lambda name: weights[name])  # one that is only asked for the head reads only that
    for rows in (slice(0, 40), slice(3, 5), slice(39, 40)):
        np.testing.assert_allclose(head.logits_of(hidden[rows]), logits[rows], atol=2e-6)
    np.testing.assert_allclose(ours.logits(ids), logits, atol=2e-6)


def test_the_head_alone_needs_no_layer() -> None:
    config, theirs = model("llama", True)
    asked = []

    def read(name: str) -> Any:
        asked.append(name)
        return theirs.state_dict()[name].numpy()

    Reference(config, read).logits_of(np.zeros((2, SMALL["hidden_size"]), np.float32))
    assert asked == ["model.embed_tokens.weight"]


def test_texts_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, theirs = model("llama", False)
    weights = {name: value.detach().numpy() for name, value in theirs.state_dict().items()}
    checkpoint = ArrayCheckpoint("small", SOURCE, config, TOKENIZER, weights)
    workshop = Workshop(Cache(tmp_path / "cache"), Tools(), Console.quiet())
    text = Text("t", np.arange(70) % SMALL["vocab_size"], 140)
    evaluation = Evaluation((text,), Text(WHOLE_CONTEXT, text.ids[::-1].copy(), 60), text)
    first = expected(checkpoint, evaluation, workshop)
    asked = []
    monkeypatch.setattr("satchel.validate.reference.Reference.__init__", lambda *_, **__: asked.append("a model"))
    with monkeypatch.context() as patch:
        patch.setattr(reference_pass, "_read_texts", None)
        again = expected(checkpoint, evaluation, workshop)
    assert asked == []  # nothing of PyTorch before a logit is asked for
    monkeypatch.undo()
    logits = Reference(config, lambda name: weights[name]).logits(text.ids).astype(np.float64)
    rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for found in (first, again):
        np.testing.assert_allclose(found.log_probabilities("t", range(ROWS)), rows[:ROWS], atol=1e-5)
        assert found.bits["t"] == pytest.approx(-rows[np.arange(69), text.ids[1:]].sum() / np.log(2), rel=1e-5)
    assert again.bits_per_byte == pytest.approx(sum(first.bits.values()) / 200)


MEMORY = """
import sys, tempfile
from pathlib import Path
import numpy as np
from satchel.cache import Cache
from satchel.console import Console
from satchel.runtimes.memory import own_peak
from satchel.source.checkpoint import ArrayCheckpoint, SourceInfo, TokenizerAssets
from satchel.tools import Tools
from satchel.validate.fidelity import Comparison
from satchel.validate.expected import ROWS
from satchel.validate.reference import Reference
from satchel.validate.reference_pass import expected
from satchel.validate.texts import Evaluation, Text
from satchel.workshop import Workshop
import torch, transformers, accelerate
vocabulary, positions = 262_144, 2048
config = {"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": vocabulary,
          "max_position_embeddings": positions, "sliding_window": 512}
random = np.random.default_rng(0)
class Checkpoint(ArrayCheckpoint):
    def read(self, name):
        return random.standard_normal(shape(name)).astype(np.float32)
def shape(name):
    part = ".".join(name.split(".")[-2:])
    return {"embed_tokens.weight": (vocabulary, 64), "q_proj.weight": (64, 64), "k_proj.weight": (16, 64),
            "v_proj.weight": (16, 64), "o_proj.weight": (64, 64), "gate_proj.weight": (96, 64),
            "up_proj.weight": (96, 64), "down_proj.weight": (64, 96), "q_norm.weight": (16,),
            "k_norm.weight": (16,)}.get(part, (64,))
text = Text("t", np.arange(positions) * 11 % vocabulary, positions)
evaluation = Evaluation((), text, text)
with tempfile.TemporaryDirectory() as folder:
    workshop = Workshop(Cache(Path(folder)), Tools(), Console.quiet())
    source = SourceInfo("directory", "small", None, "ab" * 32, None)
    checkpoint = Checkpoint("small", source, config, TokenizerAssets("{}", None, None, None, None, ()), {})
    peak = own_peak()
    before = peak()
    found = expected(checkpoint, evaluation, workshop)
    comparison = Comparison(text, 0.0)
    for position in range(0, 3 * ROWS, ROWS):
        for row in found.log_probabilities("t", range(position, position + ROWS)):
            comparison.add(0, row, row.astype(np.float32))
    print(peak() - before)
"""


def test_a_large_vocabulary_and_a_long_text_take_no_gigabyte() -> None:
    """Logits of 2048 positions over 262 144 tokens are 2.1 GB in float32, and were held three times."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    added = int(done.stdout.split()[-1])
    assert 67e6 < added < 1e9  # the table of embeddings alone is 67 MB
