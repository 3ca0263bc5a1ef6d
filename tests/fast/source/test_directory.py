"""Hugging Face directories as Checkpoints, whatever their number type, sharding and tying."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from satchel.errors import (
    BadWeightsError,
    CorruptModelError,
    ModelError,
    ModelNotFoundError,
    TokenizerError,
    UnsafeModelError,
    UnsupportedModelError,
)
from satchel.source.directory import open_directory

MakeDirectory = Callable[..., Path]
Arrays = dict[str, NDArray[np.float32]]
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "numpy_type"), [("F32", np.float32), ("F16", np.float16), ("BF16", ml_dtypes.bfloat16)]
)
def test_every_tensor_is_read_exactly(
    make_directory: MakeDirectory, tiny_arrays: Arrays, dtype: str, numpy_type: Any, shards: int
) -> None:
    checkpoint = open_directory(make_directory(dtype=dtype, shards=shards))
    assert checkpoint.tensors.keys() == tiny_arrays.keys()
    for name, array in tiny_arrays.items():
        np.testing.assert_array_equal(checkpoint.read(name), array.astype(numpy_type).astype(np.float32))
        assert checkpoint.tensors[name].stored_type == dtype
        assert checkpoint.codes(name) is None
    with pytest.raises(BadWeightsError, match=r"no tensor lm_head\.weight"):
        checkpoint.read("lm_head.weight")


def test_tying_is_what_config_and_weights_say(make_directory: MakeDirectory, tiny_arrays: Arrays) -> None:
    copy = {**tiny_arrays, "lm_head.weight": tiny_arrays["model.embed_tokens.weight"]}
    other = {**tiny_arrays, "lm_head.weight": tiny_arrays["model.embed_tokens.weight"] + 1}
    shorter = {**tiny_arrays, "lm_head.weight": tiny_arrays["model.embed_tokens.weight"][:-1]}
    cases = {
        "silent": ({"tie_word_embeddings": None}, other, False),
        "untied": ({"tie_word_embeddings": False}, other, False),
        "untied, though it is a copy": ({"tie_word_embeddings": False}, copy, False),
        "tied": ({"tie_word_embeddings": True}, tiny_arrays, True),
        "tied, with a copy": ({"tie_word_embeddings": True}, copy, True),
        "tied, but another one": ({"tie_word_embeddings": True}, other, False),
        "tied, but of another shape": ({"tie_word_embeddings": True}, shorter, False),
    }
    for name, (config, arrays, tied) in cases.items():
        checkpoint = open_directory(make_directory(name, config=config, arrays=arrays))
        assert checkpoint.config["tie_word_embeddings"] is tied, name
        assert ("lm_head.weight" in checkpoint.tensors) is not tied, name


def test_a_copied_head_is_compared_by_value_whatever_its_type(make_directory: MakeDirectory) -> None:
    table = np.arange(300 * 64, dtype=np.float32).reshape(300, 64) % 128
    folder = make_directory()
    stored = {"model.embed_tokens.weight": table.astype(ml_dtypes.bfloat16), "lm_head.weight": table}
    save_file(stored, folder / "model.safetensors")
    assert open_directory(folder).config["tie_word_embeddings"] is True
    table[299, 63] += 1
    save_file(stored, folder / "model.safetensors")
    assert open_directory(folder).config["tie_word_embeddings"] is False


def test_one_file_counts_before_an_index_of_older_ones(make_directory: MakeDirectory, tiny_arrays: Arrays) -> None:
    folder = make_directory(shards=2)
    old = open_directory(folder).source.sha256
    save_file({**tiny_arrays, UP: tiny_arrays[UP] + 1}, folder / "model.safetensors")
    checkpoint = open_directory(folder)
    np.testing.assert_array_equal(checkpoint.read(UP), tiny_arrays[UP] + 1)
    assert checkpoint.source.sha256 != old


def test_other_files_beside_the_model_are_left_alone(make_directory: MakeDirectory, tiny_arrays: Arrays) -> None:
    folder = make_directory()
    alone = open_directory(folder).source.sha256
    for name in ("adapter_model.safetensors", "consolidated.safetensors"):
        save_file({"base_model.x.lora_A.weight": np.ones(3, np.float32)}, folder / name)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    checkpoint = open_directory(folder)
    assert checkpoint.tensors.keys() == tiny_arrays.keys()
    assert checkpoint.source.sha256 == alone


@pytest.mark.parametrize("with_config", [True, False])
def test_an_adapter_is_named_with_its_base(make_directory: MakeDirectory, with_config: bool) -> None:
    folder = make_directory()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    if not with_config:
        (folder / "config.json").unlink()
    with pytest.raises(UnsupportedModelError, match=r"tiny is an adapter of org/base, not a model.*merge_and_unload"):
        open_directory(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_in_place_of_a_file_is_named(make_directory: MakeDirectory, name: str) -> None:
    folder = make_directory()
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 1234567890\n")
    with pytest.raises(CorruptModelError, match=rf"{name} is a git-lfs pointer.*git lfs pull"):
        open_directory(folder)


def test_a_part_without_its_index_is_named(make_directory: MakeDirectory) -> None:
    folder = make_directory()
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(CorruptModelError, match=r"model-00001-of-00002\.safetensors, but neither"):
        open_directory(folder)


def test_the_config_is_refused_before_the_weights_are_hashed(
    make_directory: MakeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(_path: Path) -> str:
        raise AssertionError("a file was hashed")

    monkeypatch.setattr("satchel.source.directory.file_sha256", unwanted)
    with pytest.raises(UnsupportedModelError, match="activation 'unheard'"):
        open_directory(make_directory(config={"hidden_act": "unheard"}))


DEEP = "[" * 200_000


def test_deep_json_is_refused_where_a_library_has_raised_the_recursion_limit(make_directory: MakeDirectory) -> None:
    """The converters do; Python's parser then overflows the stack, and the process is gone."""
    folder = make_directory()
    (folder / "config.json").write_text(DEEP)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(ModelError, match=r"config\.json"):
            open_directory(folder)
        assert sys.getrecursionlimit() == 1_000_000
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "adapter_config.json"]
)
@pytest.mark.parametrize("text", [DEEP.encode(), b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\xff"}', b"\0", b""])
def test_hostile_json_is_no_defect_of_ours(make_directory: MakeDirectory, name: str, text: bytes) -> None:
    folder = make_directory()
    (folder / name).write_bytes(text)
    if name == "adapter_config.json":
        (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=name) as refused:
        open_directory(folder)
    assert refused.value.exit_code == 4
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "header",
    [
        DEEP.encode(),
        b'{"x": ' + DEEP.encode(),
        b'{"x": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 99999999999999999999]}}',
        b'{"x": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": 7, "data_offsets": [0, 4]}}',
        b'{"x": 1}',
        b"[]",
    ],
)
def test_a_hostile_header_is_no_defect_of_ours(make_directory: MakeDirectory, header: bytes) -> None:
    folder = make_directory()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CorruptModelError, match=r"model\.safetensors is truncated or damaged"):
        open_directory(folder)


def test_the_tokenizer_and_its_special_tokens(make_directory: MakeDirectory) -> None:
    folder = make_directory()
    tokenizer = open_directory(folder).tokenizer
    assert tokenizer.tokenizer_json == (folder / "tokenizer.json").read_text()
    assert (tokenizer.bos_token, tokenizer.bos_id) == ("<|start|>", 256)
    assert (tokenizer.eos_token, tokenizer.eos_id) == ("<|end|>", 257)
    assert tokenizer.pad_id is None
    assert tokenizer.stop_ids == (257, 258)
    assert tokenizer.chat_template is not None
    assert tokenizer.chat_template.startswith("{% for m in messages %}")


def test_a_template_of_its_own_file_wins_and_a_list_has_a_default(make_directory: MakeDirectory) -> None:
    folder = make_directory()
    settings = {"chat_template": [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert open_directory(folder).tokenizer.chat_template == "D"
    (folder / "chat_template.jinja").write_text("J")
    assert open_directory(folder).tokenizer.chat_template == "J"


def test_without_tokenizer_settings_the_config_names_the_tokens(make_directory: MakeDirectory) -> None:
    folder = make_directory(config={"eos_token_id": [257, 258], "pad_token_id": 258})
    (folder / "tokenizer_config.json").unlink()
    (folder / "generation_config.json").unlink()
    tokenizer = open_directory(folder).tokenizer
    assert (tokenizer.bos_token, tokenizer.bos_id) == ("<|start|>", 256)
    assert (tokenizer.eos_token, tokenizer.eos_id, tokenizer.pad_id) == ("<|end|>", 257, 258)
    assert tokenizer.stop_ids == (257, 258)
    assert tokenizer.chat_template is None


def test_the_content_hash_follows_contents_and_nothing_else(make_directory: MakeDirectory) -> None:
    folder = make_directory()
    original = open_directory(folder).source
    copy = Path(shutil.copytree(folder, folder.with_name("copy")))
    (copy / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: mit\n")
    copied = open_directory(copy).source
    assert (original.kind, original.reference, original.revision) == ("directory", "tiny", None)
    assert copied.sha256 == original.sha256
    assert (original.license, copied.license) == (None, "apache-2.0")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        changed = Path(shutil.copytree(folder, folder.with_name(name)))
        (changed / name).write_text((changed / name).read_text() + "\n")
        assert open_directory(changed).source.sha256 != original.sha256


def test_buffers_of_old_versions_are_left_out(make_directory: MakeDirectory, tiny_arrays: Arrays) -> None:
    arrays = {**tiny_arrays, "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}
    assert open_directory(make_directory(arrays=arrays)).tensors.keys() == tiny_arrays.keys()


def test_a_weight_that_is_no_number_is_named(make_directory: MakeDirectory, tiny_arrays: Arrays) -> None:
    tiny_arrays[UP][4, 5] = -np.inf
    checkpoint = open_directory(make_directory(dtype="BF16"))
    with pytest.raises(BadWeightsError, match=rf"{UP} holds -inf at \[4, 5\]"):
        checkpoint.read(UP)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_pickles_are_refused_by_name(make_directory: MakeDirectory, suffix: str) -> None:
    folder = make_directory()
    (folder / "model.safetensors").rename(folder / f"pytorch_model{suffix}")
    with pytest.raises(UnsafeModelError, match=rf"pytorch_model\{suffix}, a pickle.*safetensors"):
        open_directory(folder)


def test_what_is_not_a_model(make_directory: MakeDirectory, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        open_directory(tmp_path)
    folder = make_directory()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="no weights"):
        open_directory(folder)


def test_a_missing_tokenizer_is_refused(make_directory: MakeDirectory) -> None:
    folder = make_directory()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json.*save_pretrained"):
        open_directory(folder)


def test_a_stop_token_that_is_no_id_is_refused(make_directory: MakeDirectory) -> None:
    folder = make_directory()
    (folder / "generation_config.json").write_text('{"eos_token_id": [257, "</s>"]}')
    with pytest.raises(TokenizerError, match=r"eos_token_id is \[257, '</s>'\]"):
        open_directory(folder)


def test_damage_is_named(make_directory: MakeDirectory) -> None:
    folder = make_directory()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CorruptModelError, match=r"model\.safetensors is truncated"):
        open_directory(folder)
    folder = make_directory("other")
    (folder / "config.json").write_text("{")
    with pytest.raises(CorruptModelError, match=r"config\.json is not JSON"):
        open_directory(folder)


def test_an_index_is_checked_against_the_files(make_directory: MakeDirectory, tiny_arrays: Arrays) -> None:
    folder = make_directory(shards=2)
    index = folder / "model.safetensors.index.json"
    table = json.loads(index.read_text())
    file = table["weight_map"][UP]

    def with_entry(name: str, where: str) -> None:
        index.write_text(json.dumps({"weight_map": {**table["weight_map"], name: where}}))

    with_entry(UP, "../secret.safetensors")
    with pytest.raises(CorruptModelError, match="not a plain file name"):
        open_directory(folder)
    with_entry("model.layers.7.x.weight", file)
    with pytest.raises(CorruptModelError, match=r"lacks model\.layers\.7\.x\.weight"):
        open_directory(folder)
    with_entry(UP, file)
    (folder / file).unlink()
    with pytest.raises(CorruptModelError, match=f"lacks {file}"):
        open_directory(folder)
    index.unlink()
    save_file(tiny_arrays, folder / "a.safetensors")
    with pytest.raises(CorruptModelError, match=r"neither model\.safetensors nor the"):
        open_directory(folder)


def test_integer_weights_are_refused(make_directory: MakeDirectory, tiny_arrays: Arrays) -> None:
    folder = make_directory()
    save_file({**tiny_arrays, UP: np.zeros((96, 64), np.int8)}, folder / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match=f"{UP} is stored as I8"):
        open_directory(folder)
