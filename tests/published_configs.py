"""config.json of each architecture as its makers published it, with small sizes, and as transformers 5 saves it again.

Both in the forms that lie on the hub and on disks: the first by transformers 4 or by hand, the second by
`save_pretrained` of 5.23 (tests/real/test_canonical.py makes them with it, and compares).
"""

from collections.abc import Mapping
from typing import Any

_SIZES: Mapping[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
_HEADS: Mapping[str, Any] = {"num_key_value_heads": 2}
_UNUSED_4: Mapping[str, Any] = {
    "_name_or_path": "some/where",
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0",
    "use_cache": True,
}
_UNUSED_5: Mapping[str, Any] = {
    "attention_dropout": 0.0,
    "dtype": "float32",
    "initializer_range": 0.02,
    "transformers_version": "5.23.0",
    "use_cache": False,
    "unsloth_version": "2026.1",
}
_FULL = ["full_attention"] * 6
_GEMMA_LAYERS = [*(["sliding_attention"] * 5), "full_attention"]

PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "llama": {
        **_SIZES,
        **_HEADS,
        **_UNUSED_4,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "rope_theta": 100000,
        "rope_scaling": None,
        "rope_interleaved": False,
        "is_llama_config": True,
        "pretraining_tp": 1,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    },
    "llama3": {
        **_SIZES,
        **_HEADS,
        **_UNUSED_4,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 128,
            "rope_type": "llama3",
        },
        "tie_word_embeddings": True,
        "bos_token_id": 256,
        "eos_token_id": [257, 258],
    },
    "mistral": {
        **_SIZES,
        **_HEADS,
        **_UNUSED_4,
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "eos_token_id": 2,
    },
    "qwen2": {
        **_SIZES,
        **_HEADS,
        **_UNUSED_4,
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "max_window_layers": 21,
        "use_sliding_window": False,
        "use_mrope": False,
        "tie_word_embeddings": True,
        "bos_token_id": 256,
        "eos_token_id": 257,
    },
    "qwen3": {
        **_SIZES,
        **_HEADS,
        **_UNUSED_4,
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 16,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000,
        "rope_scaling": None,
        "attention_bias": False,
        "sliding_window": None,
        "max_window_layers": 28,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "eos_token_id": 257,
    },
    "gemma3": {
        **_SIZES,
        **_UNUSED_4,
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_key_value_heads": 1,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": None,
        "query_pre_attn_scalar": 16,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000.0,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "sliding_window": 32,
        "sliding_window_pattern": 6,
        "bos_token_id": 2,
        "eos_token_id": [1, 106],
        "pad_token_id": 0,
    },
}


def _saved(name: str, without: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    kept = {
        key: value
        for key, value in PUBLISHED[name].items()
        if key not in ("rope_theta", "rope_scaling", *_UNUSED_4, *without)
    }
    return {**kept, **_UNUSED_5, **changes}


SAVED: Mapping[str, Mapping[str, Any]] = {
    "llama": _saved(
        "llama",
        ("rope_interleaved", "is_llama_config"),
        attention_bias=False,
        mlp_bias=False,
        head_dim=16,
        rms_norm_eps=9.999999747378752e-06,
        rope_parameters={"rope_theta": 100000.0, "rope_type": "default"},
        eos_token_id=[2, 7],
    ),
    "llama3": _saved(
        "llama3",
        (),
        attention_bias=False,
        mlp_bias=False,
        head_dim=16,
        rope_parameters={
            "factor": 32,
            "high_freq_factor": 4,
            "low_freq_factor": 1,
            "original_max_position_embeddings": 128,
            "rope_theta": 500000.0,
            "rope_type": "llama3",
        },
        pad_token_id=None,
    ),
    "mistral": _saved(
        "mistral",
        (),
        head_dim=16,
        rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"},
        sliding_window=None,
        bos_token_id=1,
        pad_token_id=None,
    ),
    "qwen2": _saved(
        "qwen2",
        ("use_mrope",),
        rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"},
        sliding_window=None,
        layer_types=_FULL,
        pad_token_id=None,
    ),
    "qwen3": _saved(
        "qwen3",
        (),
        rope_parameters={"rope_theta": 1000000, "rope_type": "default"},
        layer_types=_FULL,
        bos_token_id=None,
    ),
    "gemma3": _saved(
        "gemma3",
        ("sliding_window_pattern", "rope_local_base_freq", "cache_implementation"),
        _sliding_window_pattern=6,
        layer_types=_GEMMA_LAYERS,
        rope_parameters={
            "full_attention": {"rope_theta": 1000000.0, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        tie_word_embeddings=True,
        use_bidirectional_attention=False,
    ),
}
