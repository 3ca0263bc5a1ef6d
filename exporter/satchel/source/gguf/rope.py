"""How a GGUF file scales rotary positions, as Hugging Face's `rope_scaling`.

Linear scaling is a key. Llama 3's is a tensor, rope_freqs.weight: what each frequency is divided by. llama.cpp's
conversion computes it from four numbers and keeps only the result, so the numbers are found again by computing it: the
published models differ in the factor alone, which is the largest entry.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import UnsupportedModelError
from satchel.source.gguf.metadata import Metadata

ROPE_FACTORS = "rope_freqs.weight"
# low_freq_factor, high_freq_factor, original_max_position_embeddings: Llama 3.1, 3.2 and 3.3, and all made from them.
_LLAMA3_FORMS = ((1.0, 4.0, 8192),)
_TOLERANCE = 1e-5  # of a factor: the conversion computes in float32


def rope_scaling(metadata: Metadata, factors: NDArray[np.float32] | None, base: float, head_dim: int) -> dict[str, Any]:
    """`{"rope_scaling": ...}`, or nothing if positions are not scaled. factors: of rope_freqs.weight, if it is there.

    Raises UnsupportedModelError, naming the kind of scaling, if no such settings give what the file says.
    """
    kind, factor = metadata.value("rope.scaling.type"), metadata.value("rope.scaling.factor")
    if kind not in (None, "none", "linear"):
        raise UnsupportedModelError(
            f"{metadata.file_name} scales its rotary embedding by {kind!r:.40}, and GGUF does not keep all of it. "
            "Use the model's Hugging Face directory instead."
        )
    if kind != "linear" and factor not in (None, 0, 1):
        raise UnsupportedModelError(
            f"{metadata.file_name} has a {metadata.architecture}.rope.scaling.factor of {factor!r:.40} without saying "
            "how it scales. Use the model's Hugging Face directory instead."
        )
    linear = metadata.number("rope.scaling.factor") if kind == "linear" else 1.0
    scaled = factors is not None and bool(np.any(factors != 1))
    if linear != 1 and scaled:
        raise UnsupportedModelError(f"{metadata.file_name} scales its rotary embedding in two ways at once.")
    if linear != 1:
        return {"rope_scaling": {"rope_type": "linear", "factor": linear}}
    if factors is None or not scaled:
        return {}
    return {"rope_scaling": _llama3(metadata, factors, base, head_dim)}


def llama3_factors(
    base: float, head_dim: int, factor: float, low: float, high: float, original: int
) -> NDArray[np.float64]:
    """What Llama 3's scaling divides the frequencies by, [head_dim / 2]: 1 for short waves, `factor` for long ones."""
    waves = 2 * math.pi * base ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((original / waves - low) / (high - low), 0.0, 1.0)
    return np.asarray(1 / ((1 - smooth) / factor + smooth))


def _llama3(metadata: Metadata, factors: NDArray[np.float32], base: float, head_dim: int) -> dict[str, Any]:
    factor = float(str(factors.max()))
    for low, high, original in _LLAMA3_FORMS:
        if not math.isfinite(factor) or factor <= 1 or factors.shape != (head_dim // 2,):
            break
        expected = llama3_factors(base, head_dim, factor, low, high, original)
        if np.allclose(factors, expected, rtol=_TOLERANCE, atol=0):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    raise UnsupportedModelError(
        f"{metadata.file_name} scales its rotary embedding by {ROPE_FACTORS}, and not in the way of Llama 3. "
        "Use the model's Hugging Face directory instead."
    )
