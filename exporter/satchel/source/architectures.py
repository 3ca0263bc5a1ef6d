"""What can be converted, as data: of each architecture the settings that its graph depends on.

Dense decoders whose attention is softmax(q k) v with rotary positions, whole or in a sliding window. Lowering itself is
the same code for all of them. Free of torch; a test holds the tables against transformers' own classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

# Sizes that every config.json gives: positive whole numbers.
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
# Sizes that may be left out.
OPTIONAL_SIZES = ("num_key_value_heads", "head_dim")


@dataclass(frozen=True)
class Architecture:
    """One of transformers' classes: `name` with its `model_type`.

    activation: the name of the setting that names the MLP's activation. defaults: what the class takes where
    config.json is silent, of the settings that its graph depends on besides SIZES and the rotary embedding; None
    follows from others (num_key_value_heads: num_attention_heads; head_dim: hidden_size / num_attention_heads).
    window: "always" if every layer has the window, "by layer" if `layer_types` says which, "by layer, if used" if
    `use_sliding_window` must ask for it too, "" if there is none. rope_theta: rotary base of full attention, and
    rope_local_theta of sliding layers where they have one of their own.
    """

    name: str
    model_type: str
    defaults: Mapping[str, Any]
    activation: str = "hidden_act"
    window: str = ""
    rope_theta: float = 10_000.0
    rope_local_theta: float | None = None


_COMMON: Mapping[str, Any] = {
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
_QWEN: Mapping[str, Any] = {**_COMMON, "num_key_value_heads": 32, "sliding_window": 4096}
_GEMMA: Mapping[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": None,
}
_ALL = (
    Architecture("LlamaForCausalLM", "llama", {**_COMMON, "attention_bias": False, "mlp_bias": False}),
    Architecture(
        "MistralForCausalLM", "mistral", {**_COMMON, "num_key_value_heads": 8, "sliding_window": 4096}, window="always"
    ),
    Architecture("Qwen2ForCausalLM", "qwen2", _QWEN, window="by layer, if used"),
    Architecture(
        "Qwen3ForCausalLM", "qwen3", {**_QWEN, "head_dim": 128, "attention_bias": False}, window="by layer, if used"
    ),
    Architecture(
        "Gemma3ForCausalLM",
        "gemma3_text",
        _GEMMA,
        activation="hidden_activation",
        window="by layer",
        rope_theta=1_000_000.0,
        rope_local_theta=10_000.0,
    ),
)
BY_MODEL_TYPE: Mapping[str, Architecture] = MappingProxyType({one.model_type: one for one in _ALL})

# Activations that are lowered as they are; some have two names.
ACTIVATIONS: Mapping[str, str] = {
    **{name: name for name in ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "relu2")},
    "swish": "silu",
}
SLIDING, FULL = "sliding_attention", "full_attention"
