"""What transformers' own reading of a GGUF file leaves out, or takes from a class' defaults: it can't judge that."""

from collections.abc import Mapping
from typing import Any

from satchel.source.gguf.header import GgufHeader

_UNKNOWN_NAME = "how numbers are cut (transformers' reading of GGUF files does not know the pre-tokenizer {!r})"
_NO_NFC = "how accents are composed (transformers' reading of GGUF files leaves it out)"
_PRE_TOKENIZERS = {
    **{name: _UNKNOWN_NAME.format(name) for name in ("smollm", "starcoder", "refact")},
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _NO_NFC),
}
# Keys of an architecture that are read as if they had this value.
_ASSUMED: Mapping[str, Mapping[str, Any]] = {
    "qwen3": {"attention.key_length": 128},
    "gemma3": {
        "attention.key_length": 256,
        "attention.sliding_window_pattern": 6,
        "rope.freq_base_swa": 10000.0,
    },
}


def text_limits(header: GgufHeader) -> list[str]:
    """Of the tokenizer, in words."""
    note = _PRE_TOKENIZERS.get(str(header.fields.get("tokenizer.ggml.pre")))
    return [note] if note else []


def prompt_limits(header: GgufHeader) -> list[str]:
    """Of how a prompt is written, in words: with any of these its ids are other ones behind special tokens."""
    fields = header.fields
    if fields.get("tokenizer.ggml.model") == "llama" and fields.get("tokenizer.ggml.add_space_prefix", True):
        return ["the ids of prompts (transformers' reading of GGUF files puts a blank before the first text only)"]
    return []


def config_limits(header: GgufHeader) -> list[str]:
    """Of the config, in words: with any of these its logits are another model's."""
    name = str(header.fields.get("general.architecture"))
    found = ["rope_freqs.weight"] if "rope_freqs.weight" in header.tensors else []
    if header.fields.get(f"{name}.rope.scaling.type", "none") != "none":
        found.append(f"{name}.rope.scaling.type")
    for key, assumed in _ASSUMED.get(name, {}).items():
        value = header.fields.get(f"{name}.{key}", assumed)
        if value != assumed:
            found.append(f"{name}.{key}")
    if name == "gemma3" and not header.fields.get("gemma3.attention.sliding_window"):
        found.append("the missing gemma3.attention.sliding_window")
    if name == "gemma3" and header.fields.get("gemma3.block_count") == 62:
        found.append("the scale of the queries of Gemma 3 27B")
    return [f"what follows from {one} (transformers' reading of GGUF files leaves it out)" for one in found]
