"""Which kinds of attention a config gives its layers, and the refusal of what transformers doesn't compute that way."""

from collections.abc import Mapping
from typing import Any

from satchel.errors import CorruptModelError, UnsupportedModelError

FULL, SLIDING = "full_attention", "sliding_attention"
_DEFAULT_WINDOW = 4096  # of every one of transformers' configs that has a window
_WITHOUT_KINDS = ("llama", "mistral")  # their layers are all alike, and transformers doesn't read layer_types


def check_layer_kinds(model_id: str, config: Mapping[str, Any]) -> None:
    """Raise UnsupportedModelError or CorruptModelError if a layer's attention is neither whole nor in a known window,
    or is not what transformers' model makes of this config."""
    kinds = config.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != config["num_hidden_layers"]):
        raise CorruptModelError(f"layer_types in config.json of {model_id} is no list of one kind for every layer.")
    for kind in kinds or []:
        if kind not in (FULL, SLIDING):
            raise UnsupportedModelError(
                f"{model_id} has layers of {kind!r} (layer_types in config.json). These can be converted: {FULL}, "
                f"{SLIDING}."
            )
    computed = _computed(config)
    if config.get("model_type") in _WITHOUT_KINDS and kinds is not None and set(kinds) != {computed}:
        raise UnsupportedModelError(
            f"{model_id} has layers of {', '.join(sorted(set(kinds)))} (layer_types in config.json), but transformers' "
            f"{config['model_type']} gives every layer {computed}."
        )
    pattern = config.get("sliding_window_pattern")
    if pattern is not None and not _positive(pattern):
        raise CorruptModelError(f"config.json of {model_id} gives {pattern!r} as sliding_window_pattern.")
    if SLIDING in (*(kinds or []), computed) and not _positive(_window(config)):
        raise CorruptModelError(
            f"{model_id} has layers with a sliding window, but config.json gives {_window(config)!r} as its width."
        )


def _computed(config: Mapping[str, Any]) -> str:
    """The attention of the last layers if layer_types doesn't say: whole, unless there is a window in use."""
    model_type = config.get("model_type")
    if model_type == "mistral":
        return FULL if config.get("sliding_window", _DEFAULT_WINDOW) is None else SLIDING
    if model_type in ("qwen2", "qwen3"):
        return SLIDING if config.get("use_sliding_window") and config.get("sliding_window") is not None else FULL
    return SLIDING if model_type == "gemma3_text" and config.get("layer_types") is None else FULL


def _window(config: Mapping[str, Any]) -> Any:
    """The window's width; Qwen's configs have one that is not in use."""
    unused = config.get("model_type") in ("qwen2", "qwen3") and not config.get("use_sliding_window")
    return None if unused else config.get("sliding_window", _DEFAULT_WINDOW)


def _positive(value: Any) -> bool:
    return type(value) is int and value > 0
