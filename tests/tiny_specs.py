"""Tiny architectures of several families, specs of programs by structure alone, and weights for them: what lowering is
tested on."""

from dataclasses import replace
from typing import Any

import numpy as np

from satchel.lower.placeholder import TiedPlaceholders
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.reference.engine import Engine
from satchel.skeleton.spec import ProgramSpec

TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 160,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "mistral": {"model_type": "mistral", "tie_word_embeddings": False, "sliding_window": 8},
    "qwen2": {"model_type": "qwen2"},  # the one with biases
    "qwen3": {"model_type": "qwen3"},
    "gemma3": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
}


def spec(config: dict[str, Any], linear: TensorPlan, context_length: int = 96, prefill_chunk: int = 16) -> ProgramSpec:
    """Tables int8, other matrices as `linear`, the rest float."""
    from satchel.lower.decoder import parameter_shapes  # imports torch

    tied = bool(config["tie_word_embeddings"])
    tensors = {
        name: TensorPlan("float")
        if len(shape) == 1 or linear.scheme == "float"
        else TensorPlan("int8")
        if shape[0] == config["vocab_size"]
        else linear
        for name, shape in parameter_shapes(config).items()
        if not (tied and name == "lm_head.weight")
    }
    return ProgramSpec(config, QuantPlan(tensors, tied), context_length, prefill_chunk, 1, (2,))


def placeholders(config: dict[str, Any], linear: TensorPlan) -> TiedPlaceholders:
    """What a skeleton is lowered with."""
    return _weights(TiedPlaceholders, spec(config, linear))


def other_weights(of: ProgramSpec) -> TiedPlaceholders:
    """Weights that differ from the placeholders, with a tied head that is the embedding."""
    return _weights(_OtherWeights, of)


def _weights(kind: type[TiedPlaceholders], of: ProgramSpec) -> TiedPlaceholders:
    from satchel.lower.decoder import parameter_shapes  # imports torch

    return kind(of.plan, parameter_shapes(of.config), {})


class _OtherWeights(TiedPlaceholders):
    def read(self, name: str) -> Any:
        tensor = super().read(name)
        if tensor.values is not None:
            return replace(tensor, values=tensor.values * np.float32(1.25))
        offset = None if tensor.offset is None else np.ascontiguousarray(tensor.offset[::-1])
        rolled = np.ascontiguousarray(np.roll(tensor.codes, 1, axis=0))
        return replace(tensor, codes=rolled, scale=np.ascontiguousarray(tensor.scale[::-1]), offset=offset)


def largest_difference_in_chunks(engine: Engine, most: int) -> float:
    """Of logits after chunks of every length up to `most`, fed up to the full context, from those token by token.

    The last chunk is where padding would reach past the context; each length rewinds what the one before fed.
    """
    count = engine.context_length
    ids = np.random.default_rng(6).integers(0, engine.vocab_size, count)
    one_by_one = [engine.forward(ids[at : at + 1], at).copy() for at in range(count)]
    largest = 0.0
    for length in range(1, most + 1):
        for start in range(0, count, length):
            chunk = ids[start : start + length]
            logits = engine.forward(chunk, start)
            largest = max(largest, float(np.abs(logits - one_by_one[start + len(chunk) - 1]).max()))
    return largest
