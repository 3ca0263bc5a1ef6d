"""GGUF files as Checkpoints: exact values, exact codes, Hugging Face's layout, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from satchel.errors import BadWeightsError, CorruptModelError, UnsupportedModelError
from satchel.source.canonical import canonical_config
from satchel.source.gguf.checkpoint import open_gguf
from satchel.source.gguf.header import read_header

MakeGguf = Callable[..., Path]
Blocks = Callable[..., NDArray[np.uint8]]
Q = "model.layers.1.self_attn.q_proj.weight"
K = "model.layers.1.self_attn.k_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


def test_float_weights_come_back_in_hugging_faces_layout(
    make_gguf: MakeGguf, tiny_arrays: dict[str, NDArray[np.float32]], tiny_config: dict[str, Any]
) -> None:
    checkpoint = open_gguf(make_gguf())
    assert checkpoint.tensors.keys() == tiny_arrays.keys()
    for name, array in tiny_arrays.items():
        assert checkpoint.tensors[name].shape == array.shape
        np.testing.assert_array_equal(checkpoint.read(name), array, err_msg=name)
        assert checkpoint.codes(name) is None
    assert checkpoint.config == canonical_config(tiny_config)
    assert checkpoint.generation_config == {"eos_token_id": 257}  # the file names no other
    assert checkpoint.model_id == "tiny-model"
    assert checkpoint.source.license == "apache-2.0"


def test_the_header_is_what_ggufs_own_reader_sees(make_gguf: MakeGguf) -> None:
    path = make_gguf()
    header, reference = read_header(path), gguf.GGUFReader(path)
    assert header.fields == {
        name: field.contents() for name, field in reference.fields.items() if not name.startswith("GGUF.")
    }
    assert {(t.name, t.start, t.size) for t in header.tensors.values()} == {
        (t.name, t.data_offset, t.n_bytes) for t in reference.tensors
    }


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1])
def test_codes_of_a_4_bit_tensor_are_its_values(
    make_gguf: MakeGguf, random_blocks: Blocks, undo: Callable[..., Any], kind: Type
) -> None:
    shapes = {Q: (64, 64), K: (32, 64), UP: (96, 64)}
    raw = {name: random_blocks(kind, shape) for name, shape in shapes.items()}
    checkpoint = open_gguf(make_gguf(raw={name: (array, kind) for name, array in raw.items()}))
    for name, heads in ((Q, 4), (K, 2), (UP, None)):
        values = gguf.dequantize(raw[name], kind)
        expected = values if heads is None else undo(values, heads)
        np.testing.assert_array_equal(checkpoint.read(name), expected)
        source = checkpoint.codes(name)
        assert source is not None
        assert (source.scale < 0).any()
        blocks = source.codes.reshape(*source.scale.shape, 32).astype(np.float64) - 8
        from_codes = (source.scale[..., None] * blocks + source.offset[..., None]).reshape(expected.shape)
        # float32 products and sums against exact ones: a few units in the last place of |d| * 15 + |m| <= 0.32
        np.testing.assert_allclose(from_codes, expected, rtol=0, atol=1e-7)


def test_other_types_are_dequantized(make_gguf: MakeGguf, random_blocks: Blocks, tiny_arrays: dict[str, Any]) -> None:
    eight_bit = random_blocks(Type.Q8_0, (300, 64))
    five_bit = gguf.quantize(tiny_arrays["model.layers.0.mlp.down_proj.weight"], Type.Q5_1)
    half = tiny_arrays[UP].astype(np.float16)
    brain = gguf.quantize(tiny_arrays[UP], Type.BF16)
    raw = {
        EMBEDDING: (eight_bit, Type.Q8_0),
        "model.layers.0.mlp.down_proj.weight": (five_bit, Type.Q5_1),
        UP: (half, Type.F16),
        "model.layers.1.mlp.up_proj.weight": (brain, Type.BF16),
    }
    checkpoint = open_gguf(make_gguf(raw=raw))
    for name, (array, kind) in raw.items():
        np.testing.assert_array_equal(checkpoint.read(name), gguf.dequantize(array, kind))
        assert checkpoint.tensors[name].stored_type == kind.name
        assert checkpoint.codes(name) is None


def test_an_output_matrix_unties_the_head(make_gguf: MakeGguf) -> None:
    head = np.full((300, 64), 0.5, np.float32)
    checkpoint = open_gguf(make_gguf(extra={"output.weight": head}))
    assert checkpoint.config["tie_word_embeddings"] is False
    np.testing.assert_array_equal(checkpoint.read("lm_head.weight"), head)
    assert open_gguf(make_gguf()).config["tie_word_embeddings"] is True


def test_a_file_cut_anywhere_is_refused(make_gguf: MakeGguf) -> None:
    path = make_gguf()
    whole = path.read_bytes()
    for length in [*range(0, len(whole), len(whole) // 60), len(whole) - 33]:
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptModelError):
            open_gguf(path)


def test_nonsense_lengths_do_not_exhaust_memory(make_gguf: MakeGguf) -> None:
    path = make_gguf()
    whole = bytearray(path.read_bytes())
    where = whole.index(b"tokenizer.ggml.token_type") + len("tokenizer.ggml.token_type") + 8
    whole[where : where + 8] = (1 << 60).to_bytes(8, "little")
    path.write_bytes(whole)
    with pytest.raises(CorruptModelError, match="more than the file can hold"):
        open_gguf(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_named(
    make_gguf: MakeGguf, tiny_arrays: dict[str, NDArray[np.float32]], random_blocks: Blocks, bad: float
) -> None:
    tiny_arrays[UP][7, 9] = bad
    raw = random_blocks(Type.Q4_1, (64, 96))
    down = "model.layers.0.mlp.down_proj.weight"
    raw[5, 20:22] = np.array([bad], "<f2").view(np.uint8)  # the second block's d
    checkpoint = open_gguf(make_gguf(raw={down: (raw, Type.Q4_1)}))
    with pytest.raises(BadWeightsError, match=rf"{UP} holds {bad} at \[7, 9\]"):
        checkpoint.read(UP)
    with pytest.raises(BadWeightsError, match=down):
        checkpoint.codes(down)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"architecture": "falcon"},
            "architecture 'falcon'; 'llama', 'mistral3', 'qwen2', 'qwen3', 'gemma3' can be read",
        ),
        ({"fields": {"llama.expert_count": 8}}, "mixture of experts"),
        ({"fields": {"llama.rope.scaling.type": "yarn"}}, "scales its rotary embedding"),
        (
            {"extra": {"rope_freqs.weight": np.full(8, 2, np.float32)}},
            "rope_freqs.weight, and not in the way of Llama 3",
        ),
        ({"fields": {"llama.rope.dimension_count": 8}}, "only a part of each head"),
        ({"fields": {"llama.attention.sliding_window": 64}}, "sliding window"),
        ({"fields": {"llama.attention.head_count_kv": [2, 1]}}, "another llama.attention.head_count_kv in each layer"),
        ({"extra": {"blk.0.attn_sinks.weight": np.ones(4, np.float32)}}, "blk.0.attn_sinks.weight"),
        (
            {"raw": {UP: (np.zeros((96, 2 * 40), np.uint8), Type.Q8_1)}},
            r"blk\.0\.ffn_up\.weight .* Q8_1, which can't be read",
        ),
    ],
)
def test_what_a_llama_config_cannot_say_is_refused(make_gguf: MakeGguf, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        open_gguf(make_gguf(**options))


def test_missing_metadata_is_named(make_gguf: MakeGguf) -> None:
    with pytest.raises(CorruptModelError, match=r"llama\.context_length"):
        open_gguf(make_gguf(fields={"llama.context_length": None}))
