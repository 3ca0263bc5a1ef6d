"""config.json in one form: every source of one model gives the same table, and with it the same skeleton.

Published files, files that transformers saved again and GGUF metadata say the same things differently: numbers as
integers or as rounded floats, defaults written out or left out, `rope_theta` or `rope_parameters`. Programs and float
reference are made of this table alone, so that what is left out of it can't matter.
"""

from collections.abc import Mapping
from typing import Any

from satchel.errors import CorruptModelError, UnsupportedModelError
from satchel.source.architectures import ACTIVATIONS, BY_MODEL_TYPE, FULL, SIZES, SLIDING, Architecture
from satchel.source.rope import rope_parameters
from satchel.source.values import number, shown, switch, whole

_FLOATS = ("rms_norm_eps", "final_logit_softcapping")
_SWITCHES = ("attention_bias", "mlp_bias", "tie_word_embeddings")


def canonical_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with every setting that matters and no other; of one in this form, itself.

    config: one that `satchel.source.support.checked_config` has let pass. Raises CorruptModelError if a value is of the
    wrong kind, UnsupportedModelError if it asks for what can't be lowered.
    """
    kind = BY_MODEL_TYPE[config["model_type"]]
    table: dict[str, Any] = {"architectures": [kind.name], "model_type": kind.model_type}
    table |= {size: config[size] for size in SIZES}
    for name, default in kind.defaults.items():
        table[name] = config.get(name, default)
    heads = table["num_attention_heads"]
    table["num_key_value_heads"] = table["num_key_value_heads"] or heads
    table["head_dim"] = table["head_dim"] or table["hidden_size"] // heads
    for name in _FLOATS:
        if table.get(name) is not None:
            table[name] = number(name, table[name])
    for name in _SWITCHES:
        if name in table:
            table[name] = switch(name, table[name])
    if table["rms_norm_eps"] is None or not 0 < table["rms_norm_eps"] < 1:
        raise CorruptModelError(
            f"config.json gives {table['rms_norm_eps']} as rms_norm_eps; a small number is needed. Get the model again."
        )
    if "query_pre_attn_scalar" in table:
        table["query_pre_attn_scalar"] = whole("query_pre_attn_scalar", table["query_pre_attn_scalar"])
    table[kind.activation] = _activation(kind.activation, table[kind.activation])
    _check_heads(table)
    table |= _window(kind, config, table)
    table["rope_parameters"] = rope_parameters(kind, config)
    return table


def _activation(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"the model has the activation {shown(value)} ({name} in config.json); these can be converted: "
            f"{', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[value]


def _check_heads(table: Mapping[str, Any]) -> None:
    heads, shared, dim = table["num_attention_heads"], table["num_key_value_heads"], table["head_dim"]
    if heads % shared:
        raise CorruptModelError(
            f"config.json gives {heads} attention heads to {shared} heads of keys, which does not divide. "
            "Get the model again."
        )
    if dim % 2:
        raise UnsupportedModelError(f"a head of the model has {dim} numbers (head_dim); rotary positions need pairs.")


def _window(kind: Architecture, config: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """`sliding_window`, and `layer_types` where layers differ."""
    if not kind.window:
        return {}
    width = table["sliding_window"]
    if width is not None and (type(width) is not int or width <= 0):
        raise CorruptModelError(
            f"config.json gives {shown(width)} as sliding_window; a positive whole number or null is needed."
        )
    if kind.window == "always":
        return {"sliding_window": width}
    if kind.window == "by layer, if used" and not config.get("use_sliding_window"):
        width = None
    types = _layer_types(kind, config, table["num_hidden_layers"], width)
    if SLIDING not in types:  # Gemma's class makes the window's mask all the same, and asks for a number
        width = kind.defaults["sliding_window"] if kind.window == "by layer" else None
    elif width is None:
        raise CorruptModelError("config.json names layers with a sliding window, but no sliding_window is in use.")
    used = {"use_sliding_window": width is not None} if kind.window == "by layer, if used" else {}
    return {**used, "sliding_window": width, "layer_types": types}


def _layer_types(kind: Architecture, config: Mapping[str, Any], layers: int, width: int | None) -> list[str]:
    types = config.get("layer_types")
    if types is not None:
        if not isinstance(types, list) or len(types) != layers or not all(one in (SLIDING, FULL) for one in types):
            raise UnsupportedModelError(
                f"layer_types in config.json must name {SLIDING} or {FULL} for each of {layers} layers."
            )
        return types
    if kind.window == "by layer":
        period = whole("sliding_window_pattern", config.get("sliding_window_pattern", 6))
        return [FULL if (layer + 1) % period == 0 else SLIDING for layer in range(layers)]
    first = whole("max_window_layers", config.get("max_window_layers", 28), least=0)
    return [SLIDING if width is not None and layer >= first else FULL for layer in range(layers)]
