"""Every family that is read from GGUF: the logits of the very model that the file was written from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from gguf.constants import MODEL_ARCH

from gguf_families import random_model, write_family
from satchel.source.checkpoint import stored_name
from satchel.source.gguf.checkpoint import GgufCheckpoint, open_gguf
from satchel.source.gguf.header import read_header
from satchel.source.support import verify
from satchel.validate import judge
from satchel.validate.gguf_limits import config_limits
from satchel.validate.reference import Reference

IDS = np.arange(40, dtype=np.int64) * 37 % 250
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
GEMMA3: dict[str, Any] = {
    "num_hidden_layers": 7,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "hidden_size": 64,
    "sliding_window": 8,
    "query_pre_attn_scalar": 256,
}


class Family(NamedTuple):
    kind: MODEL_ARCH
    model_type: str
    settings: Mapping[str, Any]
    fields: Mapping[str, Any]
    judged: bool = True  # transformers' own reading of GGUF files takes it


FAMILIES: Mapping[str, Family] = {
    "llama": Family(MODEL_ARCH.LLAMA, "llama", {"tie_word_embeddings": True, "head_dim": 16}, {}),
    "llama with biases": Family(
        MODEL_ARCH.LLAMA, "llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}, {}, judged=False
    ),
    "llama 3.2": Family(
        MODEL_ARCH.LLAMA,
        "llama",
        {"tie_word_embeddings": True, "head_dim": 64, "rope_parameters": LLAMA3},
        {"rope.freq_base": 500_000.0, "rope.dimension_count": 64},
    ),
    "llama, linear": Family(
        MODEL_ARCH.LLAMA,
        "llama",
        {"head_dim": 16, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}},
        {"rope.freq_base": 10_000.0, "rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "mistral as llama": Family(
        MODEL_ARCH.LLAMA,
        "mistral",
        {"sliding_window": None, "head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        {"rope.freq_base": 1e6, "rope.dimension_count": 32},
    ),
    "mistral3": Family(
        MODEL_ARCH.MISTRAL3,
        "mistral",
        {"sliding_window": None, "head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        {"rope.freq_base": 1e6, "rope.dimension_count": 32},
        judged=False,
    ),
    "qwen2": Family(
        MODEL_ARCH.QWEN2,
        "qwen2",
        {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        {"rope.freq_base": 1e6, "attention.key_length": None, "attention.value_length": None},
    ),
    "qwen2 untied": Family(MODEL_ARCH.QWEN2, "qwen2", {}, {"attention.key_length": None}),
    "qwen3": Family(
        MODEL_ARCH.QWEN3,
        "qwen3",
        {"head_dim": 128, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        {"rope.freq_base": 1e6},
    ),
    "qwen3 with other heads": Family(MODEL_ARCH.QWEN3, "qwen3", {"head_dim": 32, "tie_word_embeddings": True}, {}),
    "gemma3": Family(MODEL_ARCH.GEMMA3, "gemma3_text", GEMMA3, {"rope.freq_base": 1e6, "attention.sliding_window": 8}),
    "gemma3, linear": Family(
        MODEL_ARCH.GEMMA3,
        "gemma3_text",
        {**GEMMA3, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {
            "rope.freq_base": 1e6,
            "attention.sliding_window": 8,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
    "gemma3 with its own pattern": Family(
        MODEL_ARCH.GEMMA3,
        "gemma3_text",
        {
            **GEMMA3,
            "num_hidden_layers": 3,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "rope_local_base_freq": 5000.0,
        },
        {
            "rope.freq_base": 1e6,
            "rope.freq_base_swa": 5000.0,
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": [False, True, True],
        },
    ),
    "gemma3 without a window": Family(
        MODEL_ARCH.GEMMA3, "gemma3_text", {**GEMMA3, "layer_types": ["full_attention"] * 7}, {"rope.freq_base": 1e6}
    ),
}


def logits_of(model: Any) -> np.ndarray[Any, Any]:
    import torch

    with torch.no_grad():
        return np.asarray(model(input_ids=torch.from_numpy(IDS)[None], use_cache=False).logits[0].numpy())


def our_logits(checkpoint: GgufCheckpoint) -> np.ndarray[Any, Any]:
    return Reference(checkpoint.config, lambda name: checkpoint.read(stored_name(checkpoint, name))).logits(IDS)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_logits_are_those_of_the_model_it_was_made_from(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    model = random_model(family.model_type, **family.settings)
    path = write_family(tmp_path / "model.gguf", model, family.kind, **family.fields)
    checkpoint = open_gguf(path)
    verify(checkpoint)
    ours, expected = our_logits(checkpoint), logits_of(model)
    scale = np.abs(expected).max()
    assert np.abs(ours - expected).max() <= 1e-5 * scale
    if family.judged:
        limits = config_limits(read_header(path))
        theirs = judge.OtherModel(path, checkpoint.config if limits else None)
        assert not theirs.missing
        assert np.abs(ours - theirs.logits(IDS)).max() <= 1e-5 * scale


def test_the_limits_of_transformers_are_real(tmp_path: Path) -> None:
    """Told nothing, it gives other logits: the note in the report is not an excuse."""
    for name in ("llama 3.2", "gemma3, linear", "qwen3 with other heads"):
        family = FAMILIES[name]
        model = random_model(family.model_type, **family.settings)
        path = write_family(tmp_path / f"{name}.gguf", model, family.kind, **family.fields)
        assert config_limits(read_header(path))
        try:
            theirs = judge.OtherModel(path).logits(IDS)
        except RuntimeError:  # heads of another length: it can't load the weights
            continue
        assert np.abs(theirs - logits_of(model)).max() > 1e-4 * np.abs(theirs).max()
