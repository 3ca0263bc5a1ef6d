"""What every tier needs: a cache of its own, the default model, tiny models on disk, and the rule about print()."""

import builtins
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.bundle import (
    Bundle,
    BundledModel,
    Manifest,
    Origin,
    Requirements,
    SpecialIds,
    Verdict,
    read_bundle,
    write_manifest,
)
from satchel.cache import Cache
from satchel.source.alias import DEFAULT_MODEL, aliases
from satchel.source.fetch import fetch
from satchel.tools import Tools

Arrays = dict[str, NDArray[np.float32]]
MakeDirectory = Callable[..., Path]
MakeBundle = Callable[..., Bundle]


@pytest.fixture(autouse=True)
def no_print(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails any test in which Satchel's code, console.py apart, calls print()."""
    real_print = builtins.print
    offenders: list[str] = []

    def watched(*values: Any, **options: Any) -> None:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        if caller.split(".")[0] == "satchel" and caller != "satchel.console":
            offenders.append(caller)
        real_print(*values, **options)

    monkeypatch.setattr(builtins, "print", watched)
    yield
    assert not offenders, f"print() was called by {', '.join(offenders)}; only satchel.console may"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache that only this test sees."""
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="session")
def default_gguf() -> Path:
    """The default model's GGUF file, in the user's cache (fetched once)."""
    return fetch(aliases()[DEFAULT_MODEL], Cache.default(), Tools())


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


@pytest.fixture
def tiny_config() -> dict[str, Any]:
    """A Llama of two layers whose every width is a multiple of 32."""
    return dict(TINY_CONFIG)


@pytest.fixture
def tiny_arrays(tiny_config: dict[str, Any]) -> Arrays:
    """Random weights for `tiny_config`."""
    return random_weights(tiny_config)


@pytest.fixture
def make_directory(tmp_path: Path, tiny_config: dict[str, Any], tiny_arrays: Arrays) -> MakeDirectory:
    """make_directory(name="tiny", config={}, arrays=None, dtype="F32", shards=1): a Hugging Face directory.

    `config` overrides keys of the tiny Llama's (None removes one).
    """

    def make(
        name: str = "tiny",
        config: Mapping[str, Any] | None = None,
        arrays: Arrays | None = None,
        dtype: str = "F32",
        shards: int = 1,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        merged = {key: value for key, value in {**tiny_config, **(config or {})}.items() if value is not None}
        write_json(folder / "config.json", merged)
        write_json(folder / "generation_config.json", {"eos_token_id": [257, 258]})
        write_json(
            folder / "tokenizer_config.json",
            {"bos_token": "<|start|>", "eos_token": {"content": "<|end|>"}, "chat_template": TINY_TEMPLATE},
        )
        (folder / "tokenizer.json").write_text(tiny_tokenizer_json(), encoding="utf-8")
        write_weights(folder, tiny_arrays if arrays is None else arrays, dtype, shards)
        return folder

    return make


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


BUNDLE_FILES = {
    "program": "model.pte",
    "tokenizer_json": "tokenizer.json",
    "tokenizer": "tokenizer.bin",
    "prompt": "prompt.json",
    "golden": "golden.json",
    "slots": "slots.json",
}


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """make_bundle(folder, model="tiny", recipe="int4", backend="executorch", program=None, **sizes): a bundle on disk.

    Its files are a few bytes, but for `program`. `sizes` replaces fields of the manifest, e.g. vocab_size.
    """

    def make(
        folder: Path,
        model: str = "tiny",
        recipe: str = "int4",
        backend: str = "executorch",
        program: bytes | None = None,
        **sizes: int,
    ) -> Bundle:
        folder.mkdir(parents=True)
        for role, name in BUNDLE_FILES.items():
            (folder / name).write_bytes(f"{role} of {model}\n".encode() * 100)
        if program is not None:
            (folder / BUNDLE_FILES["program"]).write_bytes(program)
        manifest = Manifest(
            model=BundledModel(model, "LlamaForCausalLM", "apache-2.0", Origin("gguf", model, "0.1.2", "ab" * 32)),
            recipe=recipe,
            backend=backend,
            special_ids=SpecialIds(bos=1, eos=2, pad=None, stop=(2,)),
            generation_defaults={"temperature": 0.0, "max_new_tokens": 256},
            requires=Requirements("0.1.0", "1.5.0", {"arm64-v8a": ("asimddp",)}),
            verdict=Verdict("passed", {"kl_mean": 0.035, "top1": 0.88}),
            tools={"satchel": "0.1.0"},
            **{"context_length": 2048, "prefill_chunk": 64, "vocab_size": 512, **sizes},
        )
        write_manifest(folder, manifest, BUNDLE_FILES)
        return read_bundle(folder)

    return make
