"""What can be converted, as data, and the checks that refuse everything else before any slow work starts."""

from collections.abc import Mapping
from typing import Any

from satchel.errors import (
    ContextLengthError,
    CorruptModelError,
    TokenizerError,
    UnsafeModelError,
    UnsupportedModelError,
)
from satchel.source.architectures import BY_MODEL_TYPE, OPTIONAL_SIZES, SIZES
from satchel.source.canonical import canonical_config
from satchel.source.checkpoint import EMBEDDING, Checkpoint, TokenizerAssets
from satchel.source.json_files import parse_json
from satchel.source.tensors import check_tensors
from satchel.source.values import shown

_LOOKS_AHEAD = "looks at the tokens after one too, which a program that writes one by one can't"
_LARGEST_SIZE = 1 << 31  # beyond any model, and within what every format can say
_MOST_LAYERS = 1000
# Config keys that, set to anything but None, False, 0 or an empty value, ask for something that can't be lowered, or
# that no graph proof can prove. They are what transformers' configs and modeling code of these architectures read.
_REFUSED_FEATURES: Mapping[str, str] = {
    "is_encoder_decoder": "is an encoder with a decoder",
    "add_cross_attention": "attends to another model",
    "per_layer_config": "has layers of different shapes",
    "attn_logit_softcapping": "caps the logits inside attention, which the runtimes' attention kernels can't do",
    "num_local_experts": "is a mixture of experts",
    "num_experts": "is a mixture of experts",
    "n_routed_experts": "is a mixture of experts",
    "use_bidirectional_attention": _LOOKS_AHEAD,
    "quantization_config": "is already quantized; start from the original weights",
}
# Config keys that must not be switched off.
_REQUIRED_FEATURES: Mapping[str, str] = {
    "is_causal": _LOOKS_AHEAD,
    "return_dict": "gives its results in a form that can't be read",
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
    if config["num_hidden_layers"] > _MOST_LAYERS:
        raise CorruptModelError(
            f"config.json of {model_id} gives {config['num_hidden_layers']} layers; no model has more than "
            f"{_MOST_LAYERS}. Get the model again."
        )
    for key, reason in _REFUSED_FEATURES.items():
        if config.get(key):
            raise UnsupportedModelError(f"{model_id} {reason} ({key} in config.json).")
    for key, reason in _REQUIRED_FEATURES.items():
        if config.get(key) is False:
            raise UnsupportedModelError(f"{model_id} {reason} ({key} in config.json is false).")
    return canonical_config(config)


def key_rows(config: Mapping[str, Any]) -> int:
    """Outputs of a layer's key projection."""
    return int(config["num_key_value_heads"] * config["head_dim"])


def check_tokenizer(tokenizer: TokenizerAssets, embedding_rows: int) -> None:
    """Raise TokenizerError if tokenizer.json is damaged or has a token without a row in the embedding."""
    try:
        definition = parse_json(tokenizer.tokenizer_json)
        vocabulary = definition["model"]["vocab"]
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        ids += [token["id"] for token in definition.get("added_tokens") or []]
        largest = max(ids)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
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
