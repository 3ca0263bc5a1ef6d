"""Reading a .tflite, what is refused, how its parts become bytes, and how large it will be."""

from io import BytesIO
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flatbuffers import Builder

from satchel.errors import BadWeightsError, CorruptModelError, InternalError
from satchel.formats import tflite, tflite_inspect
from satchel.formats.packing import PACKINGS, same_part
from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.skeleton.table import Slot

random = np.random.default_rng(12)
FLOAT32, INT8, INT4 = 0, 9, 17


def program(*tensors: tuple[str, int, tuple[int, ...], bytes, np.ndarray | None]) -> bytes:
    """A .tflite of one subgraph: (name, type, shape, content, scales of the rows) of each constant."""
    builder = Builder(1024)
    buffers = [_table(builder, 3)]  # number 0 holds nothing
    listed = []
    for number, (name, kind, shape, content, scales) in enumerate(tensors, 1):
        buffers.append(_table(builder, 3, {0: builder.CreateByteVector(content)}))
        dimensions = builder.CreateNumpyVector(np.array(shape, np.int32))
        text = builder.CreateString(name)
        fields = {0: dimensions, 3: text}
        if scales is not None:
            fields[4] = _table(builder, 7, {2: builder.CreateNumpyVector(scales)})
        builder.StartObject(10)
        for field, offset in fields.items():
            builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        builder.PrependInt8Slot(1, kind, 0)
        builder.PrependUint32Slot(2, number, 0)
        listed.append(builder.EndObject())
    subgraph = _table(builder, 5, {0: _vector(builder, listed)})
    model = _table(builder, 8, {2: _vector(builder, [subgraph]), 4: _vector(builder, buffers)})
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


def _table(builder: Builder, size: int, offsets: dict[int, int] | None = None) -> int:
    builder.StartObject(size)
    for field, offset in (offsets or {}).items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    return int(builder.EndObject())


def _vector(builder: Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


class Weights:
    """One int8 table and one norm."""

    plan = QuantPlan({"table": TensorPlan("int8"), "norm": TensorPlan("float")}, tied=False)
    codes = random.integers(-127, 128, (6, 8), dtype=np.int8)
    scale = random.uniform(0.1, 1, 6).astype(np.float32)
    values = random.normal(1, 0.1, 8).astype(np.float32)

    def read(self, name: str) -> QuantizedTensor:
        plan = self.plan[name]
        if name == "norm":
            return QuantizedTensor(plan, values=self.values)
        return QuantizedTensor(plan, codes=self.codes, scale=self.scale)


TABLE = ("table", INT8, (6, 8), Weights.codes.tobytes(), Weights.scale)
NORM = ("norm", FLOAT32, (8,), Weights.values.tobytes(), None)


def find(data: bytes) -> list[Slot]:
    return tflite.find_slots(data, Weights(), ["table", "norm"])  # type: ignore[arg-type]


def test_slots_are_found_by_content_and_read_back(tmp_path: Path) -> None:
    data = program(NORM, TABLE)
    slots = find(data)
    assert [(slot.tensor, slot.part, slot.packing) for slot in slots] == [
        ("table", "codes", "int8"),
        ("table", "scale", "float32"),
        ("norm", "values", "float32"),
    ]
    path = tmp_path / tflite.PROGRAM_FILE
    path.write_bytes(data)
    assert tflite.read_back(path, slots, Weights()) == {"table": True, "norm": True}  # type: ignore[arg-type]
    damaged = bytearray(data)
    damaged[slots[1].offset] ^= 1
    path.write_bytes(damaged)
    assert tflite.read_back(path, slots, Weights()) == {"table": False, "norm": True}  # type: ignore[arg-type]
    assert tflite.read_back(path, slots[:1], Weights())["norm"] is False  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([TABLE], "values of norm is not in the lowered program"),
        ([NORM, TABLE, ("copy", INT8, (6, 8), Weights.codes.tobytes(), None)], "codes of table is stored 2 times"),
        ([NORM, ("table", FLOAT32, *TABLE[2:])], "the program declares its codes as float32"),
        ([NORM, TABLE, ("left", FLOAT32, (256, 65), bytes(256 * 65 * 4), None)], "left: 66560 bytes of float32"),
        ([("norm", FLOAT32, (8,), (Weights.values + 1).tobytes(), None), TABLE], ""),
    ],
)
def test_what_a_lowering_may_not_give_is_refused(
    tensors: list[tuple[str, int, tuple[int, ...], bytes, np.ndarray | None]], said: str
) -> None:
    """But for the last: Gemma's norms, whose 1 + weight the converter folds."""
    if not said:
        assert find(program(*tensors))[2].packing == "float32_plus_one"
        return
    with pytest.raises(InternalError, match=said):
        find(program(*tensors))


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, b"\0\0\0\0TFL3" + b"\xff" * 100, program(NORM, TABLE)[:120], program(NORM, TABLE)[:-40]]
)
def test_what_is_no_program_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorruptModelError, match=r"model\.tflite"):
        tflite.read_layout(data)
    path = tmp_path / tflite.PROGRAM_FILE
    path.write_bytes(data or b"\0")
    with pytest.raises(CorruptModelError, match=r"model\.tflite"):
        list(tflite_inspect.tensors(path))


def test_int4_pairs_are_twos_complement_with_the_first_in_the_low_nibble() -> None:
    packed = PACKINGS["int4_signed"].pack(np.array([[-8, 7, 0, -1]], np.int8))
    assert packed == bytes([0x78, 0xF0])
    assert PACKINGS["int4_signed"].load(packed, (1, 4)).tolist() == [[-8, 7, 0, -1]]


def test_scales_are_exact_in_float16_or_rounded_but_never_to_zero() -> None:
    """The runtime refuses a scale of zero; a scale below 2^-17 belongs to a group of almost equal weights."""
    packing = PACKINGS["float16"]
    exact = np.array([2.0**-17 * 1.9921875, 0.5, 65280.0], np.float32)
    assert packing.load(packing.pack(exact), (3,)).tolist() == exact.tolist()
    tiny = packing.load(packing.pack(np.array([3e-8, 1e-30], np.float32)), (2,))
    assert tiny.tolist() == [2.0**-24, 2.0**-24]
    with pytest.raises(BadWeightsError, match="--recipe int8"):
        packing.pack(np.array([7e4], np.float32))


@pytest.mark.parametrize(("scale", "same"), [(0.5, True), (3e-8, True), (0.75, False)])
def test_two_files_hold_the_same_part_whatever_their_packing(scale: float, same: bool) -> None:
    array = np.array([[scale]], ml_dtypes.bfloat16).astype(np.float32)
    bfloat16 = PACKINGS["bfloat16"].pack(array)
    float16 = PACKINGS["float16"].pack(array if same else array * np.float32(1.5))
    one = Slot("a", "scale", "bfloat16", (1, 1), 0, 2)
    other = Slot("a", "scale", "float16", (1, 1), 1, 2)
    assert same_part(BytesIO(bfloat16), one, BytesIO(b"x" + float16), other) is same
    assert same_part(BytesIO(b"x" + float16), other, BytesIO(bfloat16), one) is same


def test_predicted_bytes_count_a_tied_table_once_and_zero_points_by_length() -> None:
    shapes = {"model.embed_tokens.weight": (100, 64), "a": (64, 64), "b": (64, 64)}
    linear = TensorPlan("int4", 32, True)
    plan = QuantPlan({"model.embed_tokens.weight": TensorPlan("int8"), "a": linear, "b": linear}, tied=True)
    without = QuantPlan({name: TensorPlan("float") for name in shapes}, tied=True)
    floats = 4 * (100 * 64 + 2 * 64 * 64)
    one = 64 * 32 + 2 * 128 + 128 + 4 * 64  # nibbles, float16 scales, int8 offsets and their float32 scales
    before, after = (tflite.predict_bytes(p, shapes, {"num_hidden_layers": 2}, 64) for p in (without, plan))
    assert after - before == 100 * 64 + 400 + 2 * one + 8 * (100 + 64) - floats
