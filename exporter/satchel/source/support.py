"""What can be converted, as data, and the checks that refuse everything else before any slow work starts."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from satchel.errors import (
    BadWeightsError,
    ContextLengthError,
    CorruptModelError,
    TokenizerError,
    UnsafeModelError,
    UnsupportedModelError,
)
from satchel.source.architectures import BY_MODEL_TYPE, OPTIONAL_SIZES, SIZES
from satchel.source.canonical import canonical_config
from satchel.source.checkpoint import EMBEDDING, HEAD, Checkpoint, TensorInfo, TokenizerAssets, is_tied
from satchel.source.values import shown

_LOOKS_AHEAD = "attends to what follows a token too, which no text that is being written has"
_LARGEST_SIZE = 1 << 31  # beyond any model, and within what every format can say
# Config keys that, set to anything but None, False, 0 or an empty value, ask for something that can't be lowered.
_REFUSED_FEATURES: Mapping[str, str] = {
    "attn_logit_softcapping": "caps the logits inside attention, which the runtimes' attention kernels can't do",
    "num_local_experts": "is a mixture of experts",
    "num_experts": "is a mixture of experts",
    "n_routed_experts": "is a mixture of experts",
    "use_bidirectional_attention": _LOOKS_AHEAD,
    "quantization_config": "is already quantized; start from the original weights",
}


def verify(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself, once config, tensors and tokenizer are known to fit together and to be convertible.

    Reads no weight. Raises BadWeightsError or TokenizerError; its config was checked when it was opened.
    """
    check_tensors(checkpoint.config, checkpoint.tensors)
    check_tokenizer(checkpoint.tokenizer, checkpoint.tensors[EMBEDDING].shape[0])
    return checkpoint


def checked_config(model_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json in its canonical form, once it is known to be convertible.

    Raises UnsafeModelError, UnsupportedModelError or CorruptModelError, with the reason.
    """
    if config.get("auto_map"):
        raise UnsafeModelError(
            f"{model_id} comes with Python code of its own (auto_map in config.json), and Satchel never runs a model's "
            "code. If transformers has this architecture built in, remove auto_map from config.json."
        )
    architectures, model_type = config.get("architectures"), config.get("model_type")
    kind = BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None
    if kind is None or (architectures and architectures != [kind.name]):
        raise UnsupportedModelError(
            f"{model_id} has the architectures {shown(architectures)} (model_type {shown(model_type)}), "
            f"which can't be converted. These can: {', '.join(one.name for one in BY_MODEL_TYPE.values())}."
        )
    for key in (*SIZES, *OPTIONAL_SIZES):
        size = config.get(key)
        if (size is None and key in OPTIONAL_SIZES) or (type(size) is int and 0 < size < _LARGEST_SIZE):
            continue
        raise CorruptModelError(
            f"config.json of {model_id} gives {shown(size)} as {key}; a positive whole number is needed. "
            "Get the model again."
        )
    for key, reason in _REFUSED_FEATURES.items():
        if config.get(key):
            raise UnsupportedModelError(f"{model_id} {reason} ({key} in config.json).")
    if config.get("is_causal") is False:
        raise UnsupportedModelError(f"{model_id} {_LOOKS_AHEAD} (is_causal in config.json).")
    return canonical_config(config)


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
