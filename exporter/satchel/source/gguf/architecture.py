"""The one table of architectures: how llama.cpp writes each of them into a GGUF file.

Sources: llama.cpp's conversion (conversion/*.py), its loader (src/models/*.cpp) and its tensor names (gguf-py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from satchel.source.gguf.gemma import KEYS as GEMMA3_KEYS
from satchel.source.gguf.gemma import gemma3_settings
from satchel.source.gguf.metadata import Metadata

TOP_MODULES: Mapping[str, str] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER_MODULES: Mapping[str, str] = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


_WITH_HEAD_NORMS: Mapping[str, str] = {
    **_LAYER_MODULES,
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
# Gemma 3 has a norm on both sides of each half of a layer; Hugging Face's names mean other places than in the others.
_GEMMA3_MODULES: Mapping[str, str] = {
    **_WITH_HEAD_NORMS,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_ATTENTION_BIAS = {"attention_bias": "model.layers.0.self_attn.q_proj.bias"}
_MLP_BIAS = {"mlp_bias": "model.layers.0.mlp.gate_proj.bias"}

Settings = Callable[[Metadata, Mapping[str, Any]], Mapping[str, Any]]


def _no_settings(metadata: Metadata, config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


def _no_window(metadata: Metadata, config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"sliding_window": None}  # the class' own default is a window of 4096


@dataclass(frozen=True)
class Architecture:
    """One value of general.architecture.

    model: Hugging Face's class. layer_modules: Hugging Face's names inside a layer -> GGUF's inside a block.
    permuted: q and k rows lie in llama.cpp's interleaved order. norm_offset: what a stored norm's weight is above
    Hugging Face's. activation: the setting's name and value. biases: setting -> the tensor whose presence is its value.
    rope_base: where the file names none; None if it must. rope_factors: whether rope_freqs.weight may scale positions.
    settings: what only this architecture has, from the metadata and the settings that all have; own_keys: its metadata.
    """

    name: str
    model: str
    model_type: str
    layer_modules: Mapping[str, str] = field(default_factory=lambda: _LAYER_MODULES)
    permuted: bool = False
    norm_offset: float = 0.0
    activation: tuple[str, str] = ("hidden_act", "silu")
    biases: Mapping[str, str] = field(default_factory=dict)
    rope_base: float | None = 10000.0
    rope_factors: bool = False
    settings: Settings = _no_settings
    own_keys: frozenset[str] = frozenset()


ARCHITECTURES: Mapping[str, Architecture] = {
    entry.name: entry
    for entry in (
        # Mistral's models before the third generation are written as llama too.
        Architecture(
            "llama",
            "LlamaForCausalLM",
            "llama",
            permuted=True,
            biases={**_ATTENTION_BIAS, **_MLP_BIAS},
            rope_factors=True,
        ),
        Architecture("mistral3", "MistralForCausalLM", "mistral", permuted=True, settings=_no_window),
        Architecture("qwen2", "Qwen2ForCausalLM", "qwen2"),
        Architecture("qwen3", "Qwen3ForCausalLM", "qwen3", _WITH_HEAD_NORMS, biases=_ATTENTION_BIAS),
        Architecture(
            "gemma3",
            "Gemma3ForCausalLM",
            "gemma3_text",
            _GEMMA3_MODULES,
            norm_offset=1.0,
            activation=("hidden_activation", "gelu_pytorch_tanh"),
            biases=_ATTENTION_BIAS,
            rope_base=None,
            settings=gemma3_settings,
            own_keys=GEMMA3_KEYS,
        ),
    )
}

# What is read of every architecture (config.py).
READ_KEYS = frozenset(
    {
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
        "rope.scaling.factor",
    }
)
# What says nothing about what is computed: the tokens count themselves, the others are notes of whoever converted.
NOTED_KEYS = frozenset(
    {"vocab_size", "rope.scaling.finetuned", "rope.scaling.original_context_length", "tensor_data_layout"}
)
# What asks for nothing if it has one of these values: llama.cpp's own default, or a factor of one.
NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attention.sliding_window": (0,),
    "attention.temperature_scale": (0,),
    "attn_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "pooling_type": (0,),
    "residual_scale": (0, 1),
    "rope.scale_linear": (0, 1),
    "rope.scaling.attn_factor": (1,),
    "rope.scaling.yarn_log_multiplier": (0,),
}
