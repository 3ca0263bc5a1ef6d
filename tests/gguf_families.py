"""Small random models of transformers as GGUF files, by the rules of llama.cpp's conversion, with gguf's own writer."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import MODEL_ARCH
from numpy.typing import NDArray

from tiny_gguf import interleave_halves

SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": None,
    "initializer_range": 0.3,  # so that attention looks somewhere
}
_PERMUTED = (MODEL_ARCH.LLAMA, MODEL_ARCH.MISTRAL3)


def random_model(model_type: str, **settings: Any) -> Any:
    """transformers' model, with norms and biases that are not all alike."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(7)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**SIZES, **settings})).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            with torch.no_grad():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def write_family(path: Path, model: Any, kind: MODEL_ARCH, **fields: Any) -> Path:
    """The model as llama.cpp's conversion writes it; fields: further metadata of the architecture, None removes."""
    config = model.config
    architecture = gguf.MODEL_ARCH_NAMES[kind]
    writer = gguf.GGUFWriter(path, architecture)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    table = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        **fields,
    }
    for key, value in table.items():
        write_value(writer, f"{architecture}.{key}", value)
    for key, value in tokens_of_bytes(config.vocab_size).items():
        write_value(writer, f"tokenizer.ggml.{key}", value)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = parameter.float().numpy()
        if kind in _PERMUTED and ("q_proj" in name or "k_proj" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            array = interleave_halves(array, heads)
        if kind == MODEL_ARCH.GEMMA3 and name.endswith("norm.weight"):
            array = array + np.float32(1)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(array))
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_frequencies(rope, head_dim))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif value is not None:
        writer.add_uint32(key, value)


def tokens_of_bytes(count: int) -> dict[str, Any]:
    """A tokenizer of bytes with one merge and special tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    more = [f"<|{number}|>" for number in range(count - 257)]
    return {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [*alphabet, "ab", *more],
        "token_type": [1] * 257 + [3] * len(more),
        "merges": ["a b"],
        "bos_token_id": 257,
        "eos_token_id": 258,
    }


def llama3_frequencies(rope: Mapping[str, Any], head_dim: int) -> NDArray[np.float32]:
    """rope_freqs.weight, number by number as the conversion has it."""
    original, low, high = (
        rope[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    factors = []
    for index in range(0, head_dim, 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (index / head_dim)
        if wave < original / high:
            factors.append(1.0)
        elif wave > original / low:
            factors.append(rope["factor"])
        else:
            smooth = (original / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)
