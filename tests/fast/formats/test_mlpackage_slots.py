"""How parts become bytes of a float16 program, how large a package will be, and what of it is no weight."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

from satchel.errors import BadWeightsError
from satchel.formats import carried, mlpackage
from satchel.formats.packing import PACKINGS, same_part
from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.skeleton.table import Slot

OFFSET = TensorPlan("int4", 32, True)
random = np.random.default_rng(21)


def slot(packing: str, array: np.ndarray) -> tuple[Slot, BytesIO]:
    packed = PACKINGS[packing].pack(array)
    return Slot("a", "values", packing, array.shape, 0, len(packed)), BytesIO(packed)


def same(one: str, other: str, array: np.ndarray, changed: np.ndarray | None = None) -> bool:
    """Whether a file with `array` in the packing `one` holds the same as a file in the packing `other`."""
    here, first = slot(one, array)
    there, second = slot(other, array if changed is None else changed)
    forth, back = same_part(first, here, second, there), same_part(second, there, first, here)
    assert forth is back
    return forth


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("float32", "float16_values"),
        ("float32", "float16"),
        ("float32", "float16_times_32"),
        ("float32_plus_one", "float16_plus_one"),
        ("float32", "float32_plus_one"),
        ("float32", "float16_plus_one"),
    ],
)
def test_what_a_float16_program_rounded_is_still_the_same_part(one: str, other: str) -> None:
    array = random.uniform(0.01, 2.0, (5, 3)).astype(np.float32)
    assert same(one, other, array)
    assert not same(one, other, array, array * np.float32(1.01))


def test_scales_of_offsets_keep_their_precision_where_float16_has_little() -> None:
    """1e-5 alone would be stored in steps of 6e-8, half a percent."""
    packing = PACKINGS["float16_times_32"]
    scale = np.full(3, 1.0123e-5, np.float32)
    assert np.abs(packing.load(packing.pack(scale), (3,)) / scale - 1).max() < 2**-11


def test_a_weight_beyond_float16_is_refused_with_what_to_do() -> None:
    with pytest.raises(BadWeightsError, match="--backend executorch"):
        PACKINGS["float16_values"].pack(np.array([-7e4], np.float32))
    assert PACKINGS["float16_values"].pack(np.array([-3.0], np.float32)) == np.float16(-3).tobytes()


def tensor(plan: TensorPlan, rows: int, width: int) -> QuantizedTensor:
    if plan.scheme == "float":
        return QuantizedTensor(plan, values=random.normal(size=(rows, width)).astype(np.float32))
    codes = random.integers(-8, 8, (rows, width)).astype(np.int8)
    if plan.scheme == "int8":
        return QuantizedTensor(plan, codes=codes, scale=random.uniform(0.1, 1, rows).astype(np.float32))
    scale = random.uniform(0.1, 1, (rows, width // 32)).astype(np.float32)
    offset = random.normal(size=scale.shape).astype(np.float32) if plan.offset else None
    return QuantizedTensor(plan, codes=codes, scale=scale, offset=offset)


@pytest.mark.parametrize("plan", [TensorPlan("float"), TensorPlan("int8"), OFFSET, replace(OFFSET, offset=False)])
def test_predicted_bytes_count_every_part(plan: TensorPlan) -> None:
    config = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
    parts = mlpackage.parts(tensor(plan, 48, 96))
    packed = sum(len(PACKINGS[packings[0]].pack(array)) for _, packings, array in parts)
    with_it = mlpackage.predict_bytes(QuantPlan({"a": plan}, True), {"a": (48, 96)}, config, 128)
    without = mlpackage.predict_bytes(QuantPlan({}, True), {}, config, 128)
    assert with_it - without == packed


def test_predicted_bytes_count_rotary_tables_per_kind_of_layer() -> None:
    def size(config: dict[str, object], context: int) -> int:
        base = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
        return mlpackage.predict_bytes(QuantPlan({}, True), {}, {**base, **config}, context)

    kinds = {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    one_table = 2 * 2 * 16 * 100  # cosines and sines, float16
    assert size(kinds, 200) - size(kinds, 100) == one_table
    for per_kind in ({"rope_local_base_freq": 1e4}, {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}):
        assert size({**kinds, **per_kind}, 200) - size({**kinds, **per_kind}, 100) == 2 * one_table


def test_the_manifest_names_the_files_and_never_changes() -> None:
    text = mlpackage.manifest()
    assert text == mlpackage.manifest()
    assert b"com.apple.CoreML/model.mlmodel" in text and b"com.apple.CoreML/weights" in text


def test_offsets_are_those_of_the_other_formats() -> None:
    """The same int8 codes; only their scales stand in the file multiplied by the block's length."""
    one = tensor(OFFSET, 40, 64)
    parts = {part: (packings[0], array) for part, packings, array in mlpackage.parts(one)}
    expected = carried.carried_offset(one)
    assert np.array_equal(parts["offset_codes"][1], expected.codes)
    assert parts["offset_codes"][0] == "int8"
    assert parts["offset_scale"][0] == "float16_times_32"
    assert np.array_equal(parts["offset_scale"][1], expected.scale)
