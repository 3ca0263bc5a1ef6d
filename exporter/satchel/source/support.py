"""What can be converted, as data, and the checks that refuse everything else before any slow work starts."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from satchel.errors import (
    BadWeightsError,
    ContextLengthError,
    CorruptModelError,
    TokenizerError,
    UnsafeModelError,
    UnsupportedModelError,
)
from satchel.source.attention import check_layer_kinds
from satchel.source.checkpoint import EMBEDDING, HEAD, Checkpoint, TensorInfo, TokenizerAssets, is_tied

# Hugging Face architecture -> model_type: dense decoders whose attention is softmax(q k) v with rotary positions,
# whole or in a sliding window. Lowering itself is the same code for all of them.
ARCHITECTURES: Mapping[str, str] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma3ForCausalLM": "gemma3_text",
}
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
_OPTIONAL_SIZES = ("num_key_value_heads", "head_dim")
# Config keys that, set to anything but None, False, 0 or an empty value, ask for something that can't be lowered, or
# that no graph proof can prove. They are what transformers' configs and modeling code of these architectures read.
_REFUSED_FEATURES: Mapping[str, str] = {
    "use_bidirectional_attention": "looks at the tokens after one too, which a program that writes one by one can't",
    "is_encoder_decoder": "is an encoder with a decoder",
    "add_cross_attention": "attends to another model",
    "per_layer_config": "has layers of different shapes",
    "attn_logit_softcapping": "caps the logits inside attention, which the runtimes' attention kernels can't do",
    "num_local_experts": "is a mixture of experts",
    "num_experts": "is a mixture of experts",
    "n_routed_experts": "is a mixture of experts",
    "quantization_config": "is already quantized; start from the original weights",
}
# Config keys that must not be switched off.
_REQUIRED_FEATURES: Mapping[str, str] = {
    "is_causal": "looks at the tokens after one too, which a program that writes one by one can't",
    "return_dict": "gives its results in a form that can't be read",
}
# Activations without weights of their own, as transformers names them.
ACTIVATIONS = {
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6",
    "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh",
}  # fmt: skip
# Rotary scalings whose frequencies are fixed numbers. The others depend on the length of the text.
_STATIC_ROPE = {"default", "linear", "llama3", "yarn"}


def verify(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself, once config, tensors and tokenizer are known to fit together and to be convertible.

    Reads no weight. Raises UnsafeModelError, UnsupportedModelError, CorruptModelError, BadWeightsError or
    TokenizerError.
    """
    check_config(checkpoint.model_id, checkpoint.config)
    check_tensors(checkpoint.config, checkpoint.tensors)
    check_tokenizer(checkpoint.tokenizer, checkpoint.tensors[EMBEDDING].shape[0])
    return checkpoint


def check_config(model_id: str, config: Mapping[str, Any]) -> None:
    """Raise UnsafeModelError, UnsupportedModelError or CorruptModelError, with the reason, if it can't be lowered."""
    if config.get("auto_map"):
        raise UnsafeModelError(
            f"{model_id} comes with Python code of its own (auto_map in config.json), and Satchel never runs a model's "
            "code. If transformers has this architecture built in, remove auto_map from config.json."
        )
    supported = [[name] for name, kind in ARCHITECTURES.items() if kind == config.get("model_type")]
    if config.get("architectures") not in supported:
        raise UnsupportedModelError(
            f"{model_id} has the architectures {config.get('architectures')} (model_type {config.get('model_type')}), "
            f"which can't be converted. These can: {', '.join(ARCHITECTURES)}."
        )
    for key in (*_SIZES, *_OPTIONAL_SIZES):
        size = config.get(key)
        if (size is None and key in _OPTIONAL_SIZES) or (type(size) is int and size > 0):
            continue
        raise CorruptModelError(
            f"config.json of {model_id} gives {size!r} as {key}; a positive whole number is needed. "
            "Get the model again."
        )
    for key, reason in _REFUSED_FEATURES.items():
        if config.get(key):
            raise UnsupportedModelError(f"{model_id} {reason} ({key} in config.json).")
    for key, reason in _REQUIRED_FEATURES.items():
        if config.get(key) is False:
            raise UnsupportedModelError(f"{model_id} {reason} ({key} in config.json is false).")
    for key in ("hidden_act", "hidden_activation"):
        if config.get(key) is not None and config[key] not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"{model_id} has the activation {config[key]!r} ({key} in config.json), which can't be converted."
            )
    check_layer_kinds(model_id, config)
    for scaling in _rope_types(config):
        if scaling not in _STATIC_ROPE:
            raise UnsupportedModelError(
                f"{model_id} scales its rotary embedding by {scaling!r}, which depends on the length of the text; "
                f"these can be converted: {', '.join(sorted(_STATIC_ROPE))}."
            )
    for table in (config, *_rope_tables(config)):
        if table.get("partial_rotary_factor") not in (None, 1):
            raise UnsupportedModelError(
                f"{model_id} turns only a part of every head by its position (partial_rotary_factor in config.json)."
            )


def _rope_types(config: Mapping[str, Any]) -> set[str]:
    """The rotary scalings in use: older configs have `rope_scaling`, newer ones `rope_parameters`, maybe per layer."""
    return {str(table.get("rope_type") or table.get("type") or "default") for table in _rope_tables(config)}


def _rope_tables(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in ("rope_scaling", "rope_parameters"):
        table = config.get(key) or {}
        if not isinstance(table, dict):
            raise CorruptModelError(f"{key} in config.json is {table!r}, not a table. Get the model again.")
        yield from [entry for entry in table.values() if isinstance(entry, dict)] or [table]


def check_tensors(config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise BadWeightsError if a tensor is missing, has the wrong shape, or belongs to nothing that is converted."""
    expected = _TOP_TENSORS if is_tied(config) else (*_TOP_TENSORS, HEAD)
    for name in expected:
        if name not in tensors:
            raise BadWeightsError(f"the model has no tensor {name}. Get the model again, or save it again completely.")
    layers: dict[int, set[str]] = defaultdict(set)
    for name, info in tensors.items():
        parts = name.split(".")
        in_layer = parts[:2] == ["model", "layers"] and len(parts) > 3 and parts[2].isdigit()
        if in_layer:
            layers[int(parts[2])].add(".".join(parts[3:]))
        elif name not in expected:
            raise BadWeightsError(f"{name} belongs to no part of {config['model_type']} that Satchel knows.")
        shape = _SHAPES.get(".".join(parts[-2:]))
        if shape is not None and info.shape != shape(config):
            raise BadWeightsError(
                f"{name} has the shape {list(info.shape)}, but config.json makes it {list(shape(config))}."
            )
    _check_layers(config["num_hidden_layers"], layers)


def _check_layers(count: int, layers: Mapping[int, set[str]]) -> None:
    if surplus := sorted(layers.keys() - set(range(count))):
        raise BadWeightsError(f"the model has weights of layer {surplus[0]}, but config.json has only {count} layers.")
    every_name = set().union(*layers.values())
    for index in range(count):
        if missing := sorted(every_name - layers.get(index, set())) or (["every weight"] if not every_name else []):
            raise BadWeightsError(f"layer {index} of {count} lacks {missing[0]}. Get the model again.")


def _heads(key: str) -> Callable[[Mapping[str, Any]], int]:
    def rows(config: Mapping[str, Any]) -> int:
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        return int((config.get(key) or heads) * head_dim)

    return rows


_query_rows = _heads("num_attention_heads")
key_rows = _heads("num_key_value_heads")
_TOP_TENSORS = (EMBEDDING, "model.norm.weight")
_SHAPES: Mapping[str, Callable[[Mapping[str, Any]], tuple[int, ...]]] = {
    "embed_tokens.weight": lambda config: (config["vocab_size"], config["hidden_size"]),
    "lm_head.weight": lambda config: (config["vocab_size"], config["hidden_size"]),
    "norm.weight": lambda config: (config["hidden_size"],),
    "q_proj.weight": lambda config: (_query_rows(config), config["hidden_size"]),
    "k_proj.weight": lambda config: (key_rows(config), config["hidden_size"]),
    "v_proj.weight": lambda config: (key_rows(config), config["hidden_size"]),
    "o_proj.weight": lambda config: (config["hidden_size"], _query_rows(config)),
    "gate_proj.weight": lambda config: (config["intermediate_size"], config["hidden_size"]),
    "up_proj.weight": lambda config: (config["intermediate_size"], config["hidden_size"]),
    "down_proj.weight": lambda config: (config["hidden_size"], config["intermediate_size"]),
}


def check_tokenizer(tokenizer: TokenizerAssets, embedding_rows: int) -> None:
    """Raise TokenizerError if tokenizer.json is damaged or has a token without a row in the embedding."""
    try:
        definition = json.loads(tokenizer.tokenizer_json)
        vocabulary = definition["model"]["vocab"]
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        ids += [token["id"] for token in definition.get("added_tokens") or []]
        largest = max(ids)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise TokenizerError(f"tokenizer.json can't be read ({problem}). Get the model again.") from problem
    named = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, *tokenizer.stop_ids)
    largest = max(largest, *(token for token in named if token is not None), 0)
    if largest >= embedding_rows:
        raise TokenizerError(
            f"the tokenizer has token id {largest}, but the embedding has only {embedding_rows} rows. "
            "The tokenizer belongs to another model, or the embedding was not resized with it."
        )


def check_context_length(checkpoint: Checkpoint, context_length: int) -> None:
    """Raise ContextLengthError if the model was not made for texts of that many tokens."""
    longest = checkpoint.config["max_position_embeddings"]
    if context_length > longest:
        raise ContextLengthError(
            f"a context of {context_length} tokens is longer than the {longest} that {checkpoint.model_id} was trained "
            f"for. Use --context {longest} or less."
        )
