"""Configs of real models, of which a graph proof takes two layers: their widths, heads, windows and scalings."""

from typing import Any

from satchel.quantize.plan import TensorPlan
from satchel.skeleton.spec import ProgramSpec
from tiny_specs import spec

_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_GEMMA = {
    "sliding_window": 512,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 256,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
}


def _config(
    model_type: str, hidden: int, intermediate: int, heads: int, kv_heads: int, dim: int, **others: Any
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": dim,
        "num_hidden_layers": 2,
        "vocab_size": 512,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        **others,
    }


SHAPES = {
    "smollm2-135m": _config("llama", 576, 1536, 9, 3, 64, rope_theta=1e5),
    "gemma3-270m": _config("gemma3_text", 640, 2048, 4, 1, 256, **_GEMMA),
    "gemma3-1b": _config("gemma3_text", 1152, 6912, 4, 1, 256, **_GEMMA),
    "llama-3.2-1b": _config("llama", 2048, 8192, 32, 8, 64, rope_theta=5e5, rope_scaling=_LLAMA3),
    "llama-3.2-3b": _config("llama", 3072, 8192, 24, 8, 128, rope_theta=5e5, rope_scaling=_LLAMA3),
    "qwen3-0.6b": _config("qwen3", 1024, 3072, 16, 8, 128, rope_theta=1e6),
    "qwen3-1.7b": _config("qwen3", 2048, 6144, 16, 8, 128, rope_theta=1e6),
    "qwen2.5-0.5b": _config("qwen2", 896, 4864, 14, 2, 64, rope_theta=1e6),
}


def shape_spec(name: str) -> ProgramSpec:
    """Of a model in recipe int4, at its context and chunk."""
    return spec(SHAPES[name], TensorPlan("int4", 32, True), context_length=2048, prefill_chunk=64)
