"""A Llama of two layers as a Hugging Face directory: lowers in seconds, and is real enough to go all the way."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]

TINY_CONFIG: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 257,
}
TINY_TEMPLATE = "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"


def write_directory(
    folder: Path, config: Mapping[str, Any], arrays: Arrays, dtype: str = "F32", shards: int = 1
) -> Path:
    """config, tokenizer, chat template and weights, as transformers would save them."""
    folder.mkdir()
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {"eos_token_id": [257, 258]})
    write_json(
        folder / "tokenizer_config.json",
        {
            "bos_token": "<|start|>",
            "eos_token": {"__type": "AddedToken", "content": "<|end|>"},
            "chat_template": TINY_TEMPLATE,
        },
    )
    (folder / "tokenizer.json").write_text(tiny_tokenizer_json(), encoding="utf-8")
    write_weights(folder, arrays, dtype, shards)
    return folder


def random_weights(config: Mapping[str, Any], seed: int = 1) -> Arrays:
    """Weights of a Llama of that config, normal with a deviation of 0.05; norms around 1."""
    random = np.random.default_rng(seed)
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    query, key = heads * config["head_dim"], config["num_key_value_heads"] * config["head_dim"]

    def normal(*shape: int, around: float = 0.0) -> NDArray[np.float32]:
        return (around + 0.05 * random.standard_normal(shape)).astype(np.float32)

    arrays = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        arrays[prefix + "input_layernorm.weight"] = normal(hidden, around=1.0)
        arrays[prefix + "self_attn.q_proj.weight"] = normal(query, hidden)
        arrays[prefix + "self_attn.k_proj.weight"] = normal(key, hidden)
        arrays[prefix + "self_attn.v_proj.weight"] = normal(key, hidden)
        arrays[prefix + "self_attn.o_proj.weight"] = normal(hidden, query)
        arrays[prefix + "post_attention_layernorm.weight"] = normal(hidden, around=1.0)
        arrays[prefix + "mlp.gate_proj.weight"] = normal(inner, hidden)
        arrays[prefix + "mlp.up_proj.weight"] = normal(inner, hidden)
        arrays[prefix + "mlp.down_proj.weight"] = normal(hidden, inner)
    arrays["model.norm.weight"] = normal(hidden, around=1.0)
    if not config["tie_word_embeddings"]:
        arrays["lm_head.weight"] = normal(config["vocab_size"], hidden)
    return arrays


def tiny_tokenizer_json() -> str:
    """Byte-level BPE without merges: 256 bytes and three special tokens, 256 to 258."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<|start|>", "<|end|>", "<|stop|>")])
    return str(tokenizer.to_str())


def write_weights(folder: Path, arrays: Arrays, dtype: str = "F32", shards: int = 1) -> None:
    """model.safetensors, or several files and their index, written by the safetensors library itself."""
    import ml_dtypes
    from safetensors.numpy import save_file

    as_type = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}[dtype]
    stored = {name: array.astype(as_type) for name, array in arrays.items()}
    if shards == 1:
        save_file(stored, folder / "model.safetensors")
        return
    names = sorted(stored)
    where = {name: f"model-{1 + i % shards:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(where.values())):
        save_file({name: stored[name] for name in names if where[name] == file}, folder / file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
