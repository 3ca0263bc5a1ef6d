"""From a Checkpoint to codes on disk and back: plans by structure, origins, exact storage, damage."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.errors import BadWeightsError, CorruptModelError, RecipeError, UnsupportedModelError
from satchel.quantize.plan import TensorPlan
from satchel.quantize.planning import plan_for
from satchel.quantize.quantize import quantize
from satchel.quantize.recipe import load_recipe, recipes
from satchel.quantize.stored import open_quantized, pack_int4, unpack_int4
from satchel.source.checkpoint import (
    ArrayCheckpoint,
    SourceCodes,
    SourceInfo,
    TensorInfo,
    TokenizerAssets,
)

Arrays = dict[str, NDArray[np.float32]]
SYMMETRIC_FILE = Path(__file__).parents[2] / "data" / "int4-symmetric.toml"
UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


class _PartlyQuantized(ArrayCheckpoint):
    """Weights whose `UP` comes with 4-bit codes (one negative scale) and whose `DOWN` was 8-bit."""

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        types = {UP: "Q4_0", DOWN: "Q8_0"}
        return {name: replace(info, stored_type=types.get(name, "F32")) for name, info in super().tensors.items()}

    def codes(self, name: str) -> SourceCodes | None:
        if name != UP:
            return None
        outputs, inputs = self.arrays[UP].shape
        scale = np.full((outputs, inputs // 32), 0.125, np.float32)
        scale[3, 1] = -0.125
        codes = np.random.default_rng(0).integers(0, 16, (outputs, inputs), dtype=np.uint8)
        return SourceCodes(codes, scale, np.zeros_like(scale), 32)


@pytest.fixture
def checkpoint(tiny_config: dict[str, Any], tiny_arrays: Arrays) -> ArrayCheckpoint:
    source = SourceInfo("directory", "tiny", None, "0" * 64, None)
    return _PartlyQuantized("tiny", source, tiny_config, TokenizerAssets("", None, None, None, None, ()), tiny_arrays)


def test_a_plan_follows_where_a_tensor_stands(checkpoint: ArrayCheckpoint) -> None:
    plan = plan_for(recipes()["int4"], checkpoint)
    assert plan.tensors.keys() == checkpoint.tensors.keys()
    assert {name: tensor.scheme for name, tensor in plan.tensors.items() if tensor.scheme != "int4"} == {
        name: ("int8" if name == EMBEDDING else "float")
        for name in checkpoint.tensors
        if name == EMBEDDING or "norm" in name
    }
    assert plan["lm_head.weight"] == plan[EMBEDDING] == TensorPlan("int8")


def test_an_untied_head_has_a_plan_of_its_own(checkpoint: ArrayCheckpoint) -> None:
    arrays = {**checkpoint.arrays, "lm_head.weight": checkpoint.arrays[EMBEDDING]}
    untied = replace(checkpoint, arrays=arrays, config={**checkpoint.config, "tie_word_embeddings": False})
    mixed = replace(recipes()["int8"], head=TensorPlan("float"))
    assert plan_for(mixed, untied)["lm_head.weight"] == TensorPlan("float")
    assert plan_for(mixed, untied)[EMBEDDING] == TensorPlan("int8")
    with pytest.raises(RecipeError, match="one table as embedding and head"):
        plan_for(mixed, checkpoint)


def test_a_width_that_groups_do_not_divide_is_refused(checkpoint: ArrayCheckpoint) -> None:
    odd = replace(checkpoint, arrays={**checkpoint.arrays, DOWN: np.zeros((64, 80), np.float32)})
    with pytest.raises(RecipeError, match=rf"{DOWN} has 80 inputs.*--recipe int8"):
        plan_for(recipes()["int4"], odd)
    assert plan_for(recipes()["int8"], odd)[DOWN] == TensorPlan("int8")


def test_a_tensor_with_no_known_place_is_refused(checkpoint: ArrayCheckpoint) -> None:
    name = "model.layers.0.conv.weight"
    odd = replace(checkpoint, arrays={**checkpoint.arrays, name: np.zeros((4, 4, 4), np.float32)})
    with pytest.raises(UnsupportedModelError, match=name):
        plan_for(recipes()["int4"], odd)


def test_each_tensor_goes_its_way_and_comes_back(checkpoint: ArrayCheckpoint, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    plan = plan_for(recipes()["int4"], checkpoint)
    written = quantize(checkpoint, plan, tmp_path / "q", lambda done, total: seen.append((done, total)))
    stored = open_quantized(tmp_path / "q")
    assert seen == [(i + 1, len(plan.tensors)) for i in range(len(plan.tensors))]
    assert stored.plan == plan
    assert stored.sha256 == written.sha256
    assert list(stored.names()) == sorted(checkpoint.tensors)
    ways = {UP: "transcoded", DOWN: "requantized", EMBEDDING: "quantized", "model.norm.weight": "float"}
    assert {name: stored.origin[name] for name in ways} == ways

    source = checkpoint.codes(UP)
    up = stored.read(UP)
    assert source is not None
    assert up.codes is not None and up.scale is not None and up.offset is not None
    block = (slice(3, 4), slice(32, 64))
    np.testing.assert_array_equal(up.codes[block], 7 - source.codes[block].astype(np.int8))
    np.testing.assert_array_equal(up.codes[0], source.codes[0].astype(np.int8) - 8)
    assert up.scale.tolist() == np.abs(source.scale).tolist()
    assert up.offset.sum() == 0.125

    table = stored.read("lm_head.weight")
    assert table.codes is not None and table.scale is not None
    np.testing.assert_allclose(
        table.codes * table.scale[:, None], checkpoint.arrays[EMBEDDING], atol=table.scale.max() * 0.51
    )
    np.testing.assert_array_equal(stored.read("model.norm.weight").values, checkpoint.arrays["model.norm.weight"])


def test_a_plan_without_offset_requantizes_negative_scales(checkpoint: ArrayCheckpoint, tmp_path: Path) -> None:
    plan = plan_for(load_recipe(str(SYMMETRIC_FILE)), checkpoint)
    stored = quantize(checkpoint, plan, tmp_path / "q")
    assert stored.origin[UP] == "requantized"
    assert stored.read(UP).offset is None


def test_the_float_recipe_keeps_every_value(checkpoint: ArrayCheckpoint, tmp_path: Path) -> None:
    stored = quantize(checkpoint, plan_for(recipes()["float"], checkpoint), tmp_path / "q")
    assert set(stored.origin.values()) == {"float"}
    for name, array in checkpoint.arrays.items():
        np.testing.assert_array_equal(stored.read(name).values, array)


def test_the_same_weights_give_the_same_bytes(checkpoint: ArrayCheckpoint, tmp_path: Path) -> None:
    plan = plan_for(recipes()["int4"], checkpoint)
    reordered = replace(checkpoint, arrays=dict(reversed(checkpoint.arrays.items())))
    quantize(checkpoint, plan, tmp_path / "a")
    quantize(reordered, plan_for(recipes()["int4"], reordered), tmp_path / "b")
    for name in ("weights.safetensors", "quantized.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_interrupted_run_leaves_nothing_that_opens(checkpoint: ArrayCheckpoint, tmp_path: Path) -> None:
    plan = plan_for(recipes()["int4"], checkpoint)
    quantize(checkpoint, plan, tmp_path / "q")

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(checkpoint, plan, tmp_path / "q", interrupt)
    with pytest.raises(CorruptModelError, match="no complete quantized weights"):
        open_quantized(tmp_path / "q")
    assert not [path for path in (tmp_path / "q").iterdir() if path.name.endswith(".part")]


def test_damage_is_noticed(checkpoint: ArrayCheckpoint, tmp_path: Path) -> None:
    quantize(checkpoint, plan_for(recipes()["int4"], checkpoint), tmp_path / "q")
    path = tmp_path / "q" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptModelError, match="is damaged"):
        open_quantized(tmp_path / "q")
    record = json.loads((tmp_path / "q" / "quantized.json").read_text())
    (tmp_path / "q" / "quantized.json").write_text(json.dumps({**record, "schema_version": 1}))
    with pytest.raises(CorruptModelError, match="format 1"):
        open_quantized(tmp_path / "q")


def test_a_weight_that_is_no_number_stops_it(
    make_directory: Callable[..., Path], tiny_arrays: Arrays, tmp_path: Path
) -> None:
    from satchel.source.directory import open_directory

    tiny_arrays[DOWN][2, 3] = np.nan
    checkpoint = open_directory(make_directory())
    with pytest.raises(BadWeightsError, match=DOWN):
        quantize(checkpoint, plan_for(recipes()["int4"], checkpoint), tmp_path / "q")


def test_int4_packing_puts_the_first_code_in_the_low_nibble() -> None:
    codes = np.array([[-8, 7, 0, -1]], np.int8)
    packed = pack_int4(codes)
    assert packed.tolist() == [[0xF0, 0x78]]
    np.testing.assert_array_equal(unpack_int4(packed), codes)
