"""The one table of architectures: how llama.cpp writes each of them into a GGUF file.

Sources: llama.cpp's conversion (conversion/*.py), its loader (src/models/*.cpp) and its tensor names (gguf-py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True)
class Architecture:
    """One value of general.architecture.

    model: Hugging Face's class. layer_modules: Hugging Face's names inside a layer -> GGUF's inside a block.
    permuted: q and k rows lie in llama.cpp's interleaved order. norm_offset: what a stored norm's weight is above
    Hugging Face's. activation: `hidden_act`. own_keys: metadata that only this architecture has, and that is read.
    """

    name: str
    model: str
    model_type: str
    layer_modules: Mapping[str, str] = field(default_factory=lambda: _LAYER_MODULES)
    permuted: bool = False
    norm_offset: float = 0.0
    activation: str = "silu"
    own_keys: frozenset[str] = frozenset()


ARCHITECTURES: Mapping[str, Architecture] = {
    entry.name: entry for entry in (Architecture("llama", "LlamaForCausalLM", "llama", permuted=True),)
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
