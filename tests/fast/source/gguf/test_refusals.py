"""Damaged and hostile GGUF files: one sentence, at once, without the memory that they ask for."""

import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from satchel.errors import CorruptModelError, ModelError, UnsupportedModelError
from satchel.source.gguf.checkpoint import open_gguf
from satchel.source.gguf.header import read_header
from satchel.source.support import verify

MakeGguf = Callable[..., Path]
_SECONDS = 2
_MEMORY = 50 << 20

# metadata under llama. -> what the refusal names
NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "no heads": ({"attention.head_count": 0}, "gives 0 as metadata entry llama.attention.head_count"),
    "heads that divide nothing": ({"attention.head_count": 7}, "gives|heads"),
    "float layers": ({"block_count": 2.0}, "gives 2.0 as metadata entry llama.block_count"),
    "layers as a text": ({"block_count": "2"}, "gives '2' as metadata entry llama.block_count"),
    "millions of layers": ({"block_count": 20_000_000}, "20000000 layers and has 20 tensors"),
    "no layers": ({"block_count": 0}, "gives 0"),
    "no width": ({"embedding_length": 0}, "embedding_length"),
    "no context": ({"context_length": 0}, "context_length"),
    "epsilon as a text": ({"attention.layer_norm_rms_epsilon": "small"}, "gives 'small'"),
    "epsilon that is no number": ({"attention.layer_norm_rms_epsilon": float("nan")}, "gives nan"),
    "endless base": ({"rope.freq_base": float("inf")}, "gives inf"),
    "heads of each layer": ({"attention.head_count": [4, 2]}, "another llama.attention.head_count in each layer"),
    "odd heads": ({"attention.key_length": 17, "attention.value_length": 17}, "heads of 17 values"),
}
KEYS: dict[str, tuple[dict[str, Any], str]] = {
    "factor without a type": ({"rope.scaling.factor": 4.0}, "llama.rope.scaling.factor of 4.0 without saying how"),
    "old factor": ({"rope.scale_linear": 4.0}, "sets llama.rope.scale_linear"),
    "attention scale": ({"attention.scale": 0.25}, "sets llama.attention.scale"),
    "logit scale": ({"logit_scale": 8.0}, "sets llama.logit_scale"),
    "embedding scale": ({"embedding_scale": 12.0}, "sets llama.embedding_scale"),
    "residual scale": ({"residual_scale": 0.2}, "sets llama.residual_scale"),
    "clamp": ({"attention.clamp_kqv": 8.0}, "sets llama.attention.clamp_kqv"),
    "both directions": ({"attention.causal": False}, "sets llama.attention.causal"),
    "soft cap": ({"attn_logit_softcapping": 50.0}, "sets llama.attn_logit_softcapping"),
    "soft cap of the logits": ({"final_logit_softcapping": 30.0}, "sets llama.final_logit_softcapping"),
    "shorter values": ({"attention.value_length": 8}, "llama.attention.value_length is 8, not 16"),
    "nobody knows": ({"attention.sinks": 4}, "sets llama.attention.sinks"),
    "yarn": ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, "scales its rotary embedding by 'yarn'"),
}


def _with(changes: dict[str, Any]) -> dict[str, Any]:
    return {f"llama.{key}": value for key, value in changes.items()}


def _refused(path: Path, kind: type[ModelError] = ModelError) -> str:
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        with pytest.raises(kind) as caught:
            open_gguf(path).tokenizer  # noqa: B018
        assert time.perf_counter() - begun < _SECONDS
        assert tracemalloc.get_traced_memory()[1] < _MEMORY
    finally:
        tracemalloc.stop()
    assert caught.value.exit_code == 4
    return str(caught.value)


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_are_none(make_gguf: MakeGguf, case: str) -> None:
    changes, named = NUMBERS[case]
    if case == "heads that divide nothing":
        changes, named = {**changes, "attention.key_length": None}, "heads, which do not divide its width of 64"
    assert named in _refused(make_gguf(fields=_with(changes)))


@pytest.mark.parametrize("case", KEYS)
def test_keys_that_nobody_here_follows(make_gguf: MakeGguf, case: str) -> None:
    changes, named = KEYS[case]
    assert named in _refused(make_gguf(fields=_with(changes)), UnsupportedModelError)


def test_keys_that_ask_for_nothing(make_gguf: MakeGguf) -> None:
    harmless = {
        "vocab_size": 300,
        "expert_count": 0,
        "rope.scaling.type": "none",
        "rope.scale_linear": 1.0,
        "logit_scale": 1.0,
        "attention.value_length": 16,
        "attention.head_count": [4, 4],
    }
    config = open_gguf(make_gguf(fields=_with(harmless))).config
    assert config == open_gguf(make_gguf()).config


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "it has only 0 bytes"),
        (b"GGU", "it has only 3 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page"),
        (b"PK\x03\x04....", "a zip archive"),
        (b'{"error": "Not found"}', "JSON text"),
        (b"\x00" * 1000, "does not start with GGUF"),
        (b"GGUF", "in the middle of its header"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "format version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "format version is 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "architecture None"),
    ],
)
def test_what_is_no_such_file_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert named in _refused(path)


def _array_of_arrays() -> bytes:
    return struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 3000 + bytes(100)


def _many_items(count: int) -> bytes:
    return struct.pack("<IIQ", 9, 0, count) + bytes(count)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (_array_of_arrays(), "an array of arrays"),
        (_many_items(3 << 20), "more than any model has"),
        (struct.pack("<IQ", 8, 1 << 25) + bytes(1 << 25), "more than any model has"),
        (struct.pack("<IQ", 8, 1 << 62), "more than the file can hold"),
        (struct.pack("<I", 77), "value type 77"),
        (struct.pack("<IQ", 8, 2) + b"\xff\xff", "not UTF-8"),
    ],
)
def test_values_that_ask_for_memory(tmp_path: Path, value: bytes, named: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a" + value)
    assert named in _refused(path, CorruptModelError)


def _tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return struct.pack(f"<Q{len(name)}sI{len(shape)}QIQ", len(name), name, len(shape), *shape, kind, offset)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ([_tensor(b"a", (4, 4)), _tensor(b"a", (4, 4))], "listed twice"),
        ([_tensor(b"a", (4, 4)), _tensor(b"b", (4, 4), offset=32)], "on top of each other"),
        ([_tensor(b"a", (1 << 62, 1 << 62))], "ends at byte"),
        ([_tensor(b"a", (4, 0))], "can't have the shape"),
        ([_tensor(b"a", (33,), kind=2)], "can't have the shape"),
        ([_tensor(b"a", (1, 1, 1, 1, 1))], "5 dimensions"),
        ([_tensor(b"a", (4,), kind=4)], "unknown type 4"),
        ([_tensor(b"a", (4,), offset=1 << 60)], "ends at byte"),
    ],
)
def test_tensors_that_can_not_be(tmp_path: Path, entries: list[bytes], named: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(entries), 0) + b"".join(entries) + bytes(200))
    assert named in _refused(path, CorruptModelError)


def test_a_million_tensors_are_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 20, 0) + bytes(2 << 20))
    assert "more than any model has" in _refused(path, CorruptModelError)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 5},
        {"tokens": [1, 2]},
        {"token_type": 1},
        {"token_type": ["normal"] * 259},
        {"merges": [1.5]},
        {"eos_token_id": "two"},
        {"eos_token_id": 1 << 31},
        {"bos_token_id": [1]},
        {"model": 4},
        {"pre": ["smollm"]},
        {"tokens": [""] * 259},
    ],
)
def test_a_tokenizer_of_other_types(make_gguf: MakeGguf, changes: dict[str, Any]) -> None:
    _refused(make_gguf(fields={f"tokenizer.ggml.{key}": value for key, value in changes.items()}))


@pytest.mark.parametrize("kind", ["adapter", "mmproj", "imatrix"])
def test_what_is_no_model_is_named(make_gguf: MakeGguf, kind: str) -> None:
    assert {"adapter": "LoRA", "mmproj": "image", "imatrix": "importance"}[kind] in _refused(
        make_gguf(fields={"general.type": kind})
    )


def test_a_license_of_another_type_is_none(make_gguf: MakeGguf) -> None:
    assert open_gguf(make_gguf(fields={"general.license": ["mit", "other"]})).source.license is None


def test_nothing_is_hashed_that_is_refused(make_gguf: MakeGguf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satchel.source.gguf.parts.file_sha256", lambda _: pytest.fail("hashed"))
    checkpoint = open_gguf(make_gguf())
    assert checkpoint.config["num_hidden_layers"] == 2
    np.testing.assert_equal(checkpoint.read("model.norm.weight").shape, (64,))


def test_whatever_is_changed_in_a_header_is_a_model_or_one_sentence(make_gguf: MakeGguf, tmp_path: Path) -> None:
    path = make_gguf()
    whole = path.read_bytes()
    end = min(tensor.start for tensor in read_header(path).tensors.values())
    random = Random(5)
    broken = tmp_path / "broken.gguf"
    for _ in range(400):
        content = bytearray(whole)
        at = random.randrange(end)
        content[at : at + random.choice([0, 1, 4])] = random.randbytes(random.choice([0, 1, 4, 8]))
        broken.write_bytes(content)
        with suppress(ModelError):
            verify(open_gguf(broken)).read("model.norm.weight")
