"""The tiny Llama as a GGUF file, written with gguf's own writer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    module, _, part = name.rpartition(".")
    if module.startswith("model.layers."):
        layer, _, rest = module.removeprefix("model.layers.").partition(".")
        return f"blk.{layer}.{GGUF_NAMES[rest]}.{part}"
    return f"{GGUF_NAMES[module]}.{part}"


def interleave_halves(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """llama.cpp's order of q and k rows, spelled out: row i of a head's first half to 2 i, of its second to 2 i + 1."""
    half = len(rows) // heads // 2
    out = np.empty_like(rows)
    for head in range(heads):
        for i in range(half):
            out[head * 2 * half + 2 * i] = rows[head * 2 * half + i]
            out[head * 2 * half + 2 * i + 1] = rows[head * 2 * half + half + i]
    return out


def write_gguf(
    path: Path,
    config: Mapping[str, Any],
    arrays: Mapping[str, NDArray[np.float32]],
    raw: Mapping[str, tuple[NDArray[Any], Type]] | None = None,
    fields: Mapping[str, Any] | None = None,
    architecture: str = "llama",
    extra: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """A Llama of `config` and `arrays`, F32 unless `raw` has a tensor's bytes and type.

    Names are Hugging Face's. `raw` bytes are stored as given; F32 weights of q and k get llama.cpp's row order.
    `fields` override or add metadata; `extra` adds tensors under their GGUF names.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**_metadata(config), **(fields or {})}.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    for name, array in arrays.items():
        stored, kind = (raw or {}).get(name, (array, None))
        if kind is None and ("q_proj" in name or "k_proj" in name):
            key = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
            stored = interleave_halves(stored, config[key])
        writer.add_tensor(gguf_name(name), stored, raw_dtype=kind)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def split_gguf(path: Path, name: str, count: int) -> list[Path]:
    """The file's tensors in `count` parts beside it, as llama.cpp's gguf-split writes them."""
    reader = gguf.GGUFReader(path)
    parts = [path.with_name(f"{name}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    for number, part in enumerate(parts):
        writer = gguf.GGUFWriter(part, "llama")
        if number == 0:
            for key, field in reader.fields.items():
                if not key.startswith("GGUF.") and key != "general.architecture":
                    writer.add_key_value(key, field.contents(), field.types[0], field.types[-1])
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[number::count]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return parts


def _metadata(config: Mapping[str, Any]) -> dict[str, Any]:
    tokens = [*sorted(ByteLevel.alphabet()), "ab", "<|end|>", "<|stop|>"]
    return {
        "general.license": "apache-2.0",
        "llama.block_count": config["num_hidden_layers"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.rope.freq_base": config["rope_theta"],
        "llama.rope.dimension_count": config["head_dim"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 257 + [3, 3],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 257,
    }
