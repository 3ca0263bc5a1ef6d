"""What Gemma 3's metadata says beyond that of other decoders: which layers look at a window, and both rotary bases.

Where the file is silent, llama.cpp's loader (src/models/gemma3.cpp) says what is meant.
"""

from collections.abc import Mapping
from typing import Any

from satchel.errors import CorruptModelError
from satchel.source.gguf.metadata import Metadata

WINDOW = "attention.sliding_window"
_PATTERN = "attention.sliding_window_pattern"
_LOCAL_BASE = "rope.freq_base_swa"
KEYS = frozenset({WINDOW, _PATTERN, _LOCAL_BASE})
_LAYERS_OF_27B = 62  # the one size whose queries are scaled by the width per head, and not by the head's own


def gemma3_settings(metadata: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for Gemma3TextConfig. config: the settings that all decoders have."""
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    windowed = metadata.value(WINDOW) not in (None, 0)
    slides = _slides(metadata, layers) if windowed else [False] * layers
    wide = layers == _LAYERS_OF_27B
    return {
        "layer_types": ["sliding_attention" if one else "full_attention" for one in slides],
        "sliding_window": metadata.size(WINDOW) if windowed else config["max_position_embeddings"],
        "rope_local_base_freq": metadata.number(_LOCAL_BASE, 10000.0),
        "query_pre_attn_scalar": config["hidden_size"] // heads if wide else config["head_dim"],
    }


def _slides(metadata: Metadata, layers: int) -> list[bool]:
    """Per layer, whether it looks at a window only: a list, or every how many layers one does not."""
    pattern = metadata.value(_PATTERN)
    if isinstance(pattern, list):
        if len(pattern) < layers or not all(type(one) is bool for one in pattern):
            raise CorruptModelError(
                f"{metadata.file_name} has no usable metadata entry {metadata.architecture}.{_PATTERN}. "
                "Download it again."
            )
        return pattern[:layers]
    every = metadata.size(_PATTERN, 6)
    return [index % every < every - 1 for index in range(layers)]
