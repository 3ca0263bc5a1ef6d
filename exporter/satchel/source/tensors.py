"""The tensors that an architecture needs, by name and shape: what a model's own are held against before any work.

Free of torch; a test holds the table against the parameters of transformers' classes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from satchel.errors import BadWeightsError
from satchel.source.checkpoint import EMBEDDING, HEAD, TensorInfo

_Shape = tuple[int, ...]
_SAVE = "Get the model again, or save it again completely."


def expected_tensors(config: Mapping[str, Any]) -> dict[str, _Shape]:
    """Name -> shape of every tensor that a model of this canonical config has; no head where it is the embedding."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    found: dict[str, _Shape] = {EMBEDDING: (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        found[HEAD] = (vocabulary, hidden)
    of_a_layer = dict(_layer(config))
    for layer in range(config["num_hidden_layers"]):
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in of_a_layer.items()}
    return found


def _layer(config: Mapping[str, Any]) -> Iterator[tuple[str, _Shape]]:
    kind, hidden, inner, dim = (config[name] for name in ("model_type", "hidden_size", "intermediate_size", "head_dim"))
    query, key = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    attention = {"q_proj": (query, hidden), "k_proj": (key, hidden), "v_proj": (key, hidden), "o_proj": (hidden, query)}
    mlp = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    biased = attention.keys() if config.get("attention_bias") else {"q_proj", "k_proj", "v_proj"}
    for name, shape in attention.items():
        yield f"self_attn.{name}.weight", shape
        if name in biased and (kind == "qwen2" or config.get("attention_bias")):
            yield f"self_attn.{name}.bias", shape[:1]
    for name, shape in mlp.items():
        yield f"mlp.{name}.weight", shape
        if config.get("mlp_bias"):
            yield f"mlp.{name}.bias", shape[:1]
    if kind in ("qwen3", "gemma3_text"):
        yield "self_attn.q_norm.weight", (dim,)
        yield "self_attn.k_norm.weight", (dim,)
    around = ("pre_feedforward_layernorm", "post_feedforward_layernorm") if kind == "gemma3_text" else ()
    for name in ("input_layernorm", "post_attention_layernorm", *around):
        yield f"{name}.weight", (hidden,)


def check_tensors(config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise BadWeightsError if a tensor is missing, has the wrong shape, or belongs to nothing that is converted."""
    expected = expected_tensors(config)
    layers = config["num_hidden_layers"]
    for name in tensors:
        if name not in expected:
            raise BadWeightsError(_stranger(name, str(config["model_type"]), layers))
    for name, shape in expected.items():
        if name not in tensors:
            raise BadWeightsError(_missing(name, layers))
        if tensors[name].shape != shape:
            raise BadWeightsError(
                f"{name} has the shape {list(tensors[name].shape)}, but config.json makes it {list(shape)}."
            )


def _stranger(name: str, model_type: str, layers: int) -> str:
    if ".lora_" in name or ".base_layer." in name:
        return (
            f"{name} is of an adapter that was not merged. Merge it (peft: merge_and_unload) and save the model again."
        )
    parts = name.split(".")
    if parts[:2] == ["model", "layers"] and len(parts) > 3 and parts[2].isdigit() and int(parts[2][:9]) >= layers:
        return f"the model has weights of layer {parts[2][:9]}, but config.json has only {layers} layers."
    return f"{name} belongs to no part of {model_type} that Satchel knows."


def _missing(name: str, layers: int) -> str:
    if name == HEAD:
        return (
            f"the model has no tensor {HEAD}, and config.json does not say that its head is the embedding. {_SAVE} If "
            'it is, write "tie_word_embeddings": true into config.json.'
        )
    if name.startswith("model.layers."):
        _, _, layer, part = name.split(".", 3)
        return f"layer {layer} of {layers} lacks {part}. {_SAVE}"
    return f"the model has no tensor {name}. {_SAVE}"
