"""Tiny architectures of several families, and the spec of a program by structure alone: what lowering is tested on."""

from typing import Any

from satchel.lower.spec import ProgramSpec
from satchel.quantize.plan import QuantPlan, TensorPlan

TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 160,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "qwen3": {"model_type": "qwen3"},
    "gemma3": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
}


def spec(config: dict[str, Any], linear: TensorPlan, context_length: int = 96, prefill_chunk: int = 16) -> ProgramSpec:
    """Tables int8, other matrices as `linear`, the rest float."""
    from satchel.lower.decoder import parameter_shapes  # imports torch

    tied = bool(config["tie_word_embeddings"])
    tensors = {
        name: TensorPlan("float")
        if len(shape) == 1 or linear.scheme == "float"
        else TensorPlan("int8")
        if shape[0] == config["vocab_size"]
        else linear
        for name, shape in parameter_shapes(config).items()
        if not (tied and name == "lm_head.weight")
    }
    return ProgramSpec(config, QuantPlan(tensors, tied), context_length, prefill_chunk, 1, (2,))
