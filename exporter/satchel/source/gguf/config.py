"""A GGUF file's metadata as the Hugging Face config that it was converted from; what that can't say is refused."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BadWeightsError, CorruptModelError, UnsupportedModelError
from satchel.source.checkpoint import EMBEDDING, HEAD
from satchel.source.gguf.architecture import ARCHITECTURES, NEUTRAL_VALUES, NOTED_KEYS, READ_KEYS, Architecture
from satchel.source.gguf.header import GgufHeader, GgufTensor
from satchel.source.gguf.metadata import Metadata
from satchel.source.gguf.rope import rope_scaling

_USE_DIRECTORY = "Use the model's Hugging Face directory instead."
_NOT_MODELS = {
    "adapter": "is a LoRA adapter, not a model. Merge it into its base model first",
    "mmproj": "is the image or sound part of a model. Use the file with the language model",
    "imatrix": "holds the importance matrix that a quantizer uses. Use the file with the model",
}


def architecture_of(file_name: str, header: GgufHeader) -> Architecture:
    """The row of the table that the file belongs to. Raises UnsupportedModelError, by name, if there is none."""
    kind = header.fields.get("general.type", "model")
    if kind in ("adapter", "mmproj", "imatrix"):
        raise UnsupportedModelError(f"{file_name} {_NOT_MODELS[kind]}.")
    name = header.fields.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{file_name} holds the GGUF architecture {name!r}; {', '.join(map(repr, ARCHITECTURES))} can be read from "
            f"GGUF files. {_USE_DIRECTORY}"
        )
    return ARCHITECTURES[name]


def layer_count(metadata: Metadata, header: GgufHeader) -> int:
    """Layers, known to be no more than there are tensors."""
    layers = metadata.size("block_count")
    if layers > len(header.tensors):
        raise CorruptModelError(
            f"{metadata.file_name} announces {layers} layers and has {len(header.tensors)} tensors. Download it again."
        )
    return layers


def make_config(
    architecture: Architecture,
    metadata: Metadata,
    layers: int,
    stored: Mapping[str, GgufTensor],
    rope_factors: NDArray[np.float32] | None,
) -> dict[str, Any]:
    """The Hugging Face config. stored: tensors by Hugging Face name; rope_factors: rope_freqs.weight, if it is there.

    Raises UnsupportedModelError for whatever the config could not say, CorruptModelError for numbers that are none,
    BadWeightsError if there is no embedding.
    """
    _refuse_unknown_keys(architecture, metadata)
    if EMBEDDING not in stored:
        raise BadWeightsError("the GGUF file has no token_embd.weight, so there is no embedding. Get the file again.")
    if len(stored[EMBEDDING].shape) != 2:
        raise BadWeightsError(f"token_embd.weight has the shape {list(stored[EMBEDDING].shape)}. Get the file again.")
    vocab_size, hidden_size = stored[EMBEDDING].shape
    heads = metadata.size("attention.head_count")
    head_dim = _head_dim(metadata, heads)
    rope_base = metadata.number("rope.freq_base", architecture.rope_base)
    activation, function = architecture.activation
    config = {
        "architectures": [architecture.model],
        "model_type": architecture.model_type,
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": metadata.size("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.size("attention.head_count_kv", heads),
        "head_dim": head_dim,
        activation: function,
        "max_position_embeddings": metadata.size("context_length"),
        "rms_norm_eps": metadata.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": rope_base,
        **rope_scaling(metadata, rope_factors, rope_base, head_dim),
        "tie_word_embeddings": HEAD not in stored,
        **{setting: tensor in stored for setting, tensor in architecture.biases.items()},
        "torch_dtype": "float32",
        **token_ids(metadata),
    }
    return {**config, **architecture.settings(metadata, config)}


def token_ids(metadata: Metadata) -> dict[str, int]:
    """What the config and the generation config say of special tokens."""
    found = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        token = metadata.fields.get(f"tokenizer.ggml.{key}_token_id")
        if type(token) is int and token >= 0:  # the tokenizer's reader complains about anything else
            found[f"{name}_token_id"] = token
    return found


def _head_dim(metadata: Metadata, heads: int) -> int:
    """Values per head, the same for queries, keys and values; all of them are rotated."""
    hidden = metadata.size("embedding_length")
    if "attention.key_length" not in metadata and hidden % heads:
        raise CorruptModelError(
            f"{metadata.file_name} has {heads} heads, which do not divide its width of {hidden}. Download it again."
        )
    head_dim = metadata.size("attention.key_length", hidden // heads)
    if head_dim % 2:
        raise CorruptModelError(f"{metadata.file_name} has heads of {head_dim} values; rotary positions need pairs.")
    if metadata.size("attention.value_length", head_dim) != head_dim:
        raise UnsupportedModelError(
            f"{metadata.file_name} has values of another length than keys: {metadata.architecture}."
            f"attention.value_length is {metadata.value('attention.value_length')}, not {head_dim}. {_USE_DIRECTORY}"
        )
    if metadata.size("rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedModelError(f"{metadata.file_name} rotates only a part of each head. {_USE_DIRECTORY}")
    return head_dim


def _refuse_unknown_keys(architecture: Architecture, metadata: Metadata) -> None:
    """A key that nobody here reads may change what is computed: refused by name, unless its value asks for nothing."""
    if metadata.value("expert_count"):
        raise UnsupportedModelError(f"{metadata.file_name} is a mixture of experts, which can't be lowered yet.")
    if metadata.value("attention.sliding_window") and "attention.sliding_window" not in architecture.own_keys:
        raise UnsupportedModelError(f"{metadata.file_name} uses sliding window attention. {_USE_DIRECTORY}")
    known = READ_KEYS | NOTED_KEYS | architecture.own_keys
    for key in metadata.keys:
        if key not in known and metadata.value(key) not in NEUTRAL_VALUES.get(key, ()):
            raise UnsupportedModelError(
                f"{metadata.file_name} sets {architecture.name}.{key}, which Satchel does not know how to follow. "
                f"{_USE_DIRECTORY}"
            )
