"""How parts of a tensor become bytes, what the file carries of an offset, and how large it will be."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from satchel.errors import CorruptModelError
from satchel.formats import carried, pte, pte_inspect
from satchel.formats.packing import PACKINGS
from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.skeleton.table import Slot, read_skeleton, write_skeleton
from satchel.source.checkpoint import EMBEDDING, HEAD

random = np.random.default_rng(11)


def int4_tensor(rows: int = 6, width: int = 64) -> QuantizedTensor:
    codes = random.integers(-8, 8, (rows, width), dtype=np.int8)
    scale = np.ldexp(random.integers(128, 256, (rows, width // 32)), -12).astype(np.float32)  # exact in bfloat16
    offset = random.normal(0, 0.1, scale.shape).astype(np.float32)
    return QuantizedTensor(TensorPlan("int4", 32, True), codes=codes, scale=scale, offset=offset)


def int8_tensor(rows: int = 5, width: int = 8) -> QuantizedTensor:
    codes = random.integers(-127, 128, (rows, width), dtype=np.int8)
    return QuantizedTensor(TensorPlan("int8"), codes=codes, scale=random.uniform(0.1, 1, rows).astype(np.float32))


def test_int4_pairs_have_the_first_code_in_the_low_nibble() -> None:
    packed = PACKINGS["int4"].pack(np.array([[-8, 7, 0, -1]], np.int8))
    assert packed == bytes([0xF0, 0x78])


@pytest.mark.parametrize("tensor", [int4_tensor(), int8_tensor()])
def test_every_packing_gives_back_what_it_got(tensor: QuantizedTensor) -> None:
    for _, packings, array in pte.parts(tensor):
        packing = PACKINGS[packings[0]]
        found = packing.load(packing.pack(array), array.shape)
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)


def test_a_norm_that_adds_one_is_compared_as_bytes() -> None:
    packed = PACKINGS["float32_plus_one"].pack(np.array([0.25, -1.0], np.float32))
    assert np.frombuffer(packed, np.float32).tolist() == [1.25, 0.0]


def test_carried_offsets_are_int8_rows_within_half_a_step() -> None:
    tensor = int4_tensor()
    assert tensor.offset is not None
    tensor.offset[2] = 0.0
    stored = carried.carried_offset(tensor)
    assert stored.codes is not None
    assert stored.scale is not None
    assert stored.scale[2] == 1.0
    error = np.abs(carried.carried_weight(stored) - tensor.offset)
    assert (error <= stored.scale[:, None] * 0.5001).all()
    assert np.abs(stored.codes).max() == 127


def test_the_carried_weight_is_scale_times_code_plus_offset() -> None:
    tensor = int4_tensor(2, 64)
    assert tensor.codes is not None
    assert tensor.scale is not None
    offset = carried.carried_weight(carried.carried_offset(tensor))
    weight = carried.carried_weight(tensor)
    for row, column in ((0, 0), (0, 31), (0, 32), (1, 63)):
        block = column // 32
        expected = tensor.scale[row, block] * np.float32(tensor.codes[row, column]) + offset[row, block]
        assert weight[row, column] == expected


class Weights:
    """A QuantizedCheckpoint in memory."""

    def __init__(self, tensors: dict[str, QuantizedTensor]) -> None:
        self.tensors = tensors
        self.plan = QuantPlan({name: tensor.plan for name, tensor in tensors.items()}, tied=False)
        self.origin = dict.fromkeys(tensors, "quantized")
        self.sha256 = "0" * 64

    def read(self, name: str) -> QuantizedTensor:
        return self.tensors[name]

    def names(self) -> Iterator[str]:
        return iter(self.tensors)


def laid_out(weights: Weights) -> tuple[bytearray, list[Slot]]:
    """The parts one after another, as slots of a file that refers to each by its sha256 in its first region."""
    import hashlib

    slots, body, keys = [], bytearray(), bytearray()
    count = sum(1 for name in weights.names() for _ in pte.parts(weights.read(name)))
    start = 64 * count
    for name in weights.names():
        for part, packings, array in pte.parts(weights.read(name)):
            packed = PACKINGS[packings[0]].pack(array)
            key = hashlib.sha256(packed).hexdigest()
            slots.append(Slot(name, part, packings[0], array.shape, start + len(body), len(packed), key))
            body += packed
            keys += key.encode()
    return keys + body, slots


def test_filling_writes_weights_and_the_keys_that_name_them(tmp_path: Path) -> None:
    placeholders = Weights({"a": int4_tensor(), "b": int8_tensor()})
    weights = Weights({"a": int4_tensor(), "b": int8_tensor()})
    expected, slots = laid_out(weights)
    program, template_slots = laid_out(placeholders)
    (tmp_path / "skeleton").mkdir()
    regions = [(0, 64 * len(slots))]
    write_skeleton(
        tmp_path / "skeleton", backend="executorch", program=program, slots=template_slots, regions=regions, proof={}
    )
    path = tmp_path / "model.pte"
    pte.fill(read_skeleton(tmp_path / "skeleton"), weights, path)
    assert path.read_bytes() == bytes(expected)


@pytest.mark.parametrize("part", ["codes", "scale", "offset_codes", "offset_scale", "values"])
def test_reading_back_notices_one_bit(tmp_path: Path, part: str) -> None:
    norm = QuantizedTensor(TensorPlan("float"), values=random.normal(1, 0.1, 8).astype(np.float32))
    weights = Weights({"linear": int4_tensor(), "norm": norm})
    data, slots = laid_out(weights)
    path = tmp_path / "model.pte"
    path.write_bytes(data)
    assert pte.read_back(path, tuple(slots), weights) == {"linear": True, "norm": True}
    slot = next(slot for slot in slots if slot.part == part)
    data[slot.offset + slot.bytes - 1] ^= 1
    path.write_bytes(data)
    equal = pte.read_back(path, tuple(slots), weights)
    assert equal == {"linear": slot.tensor != "linear", "norm": slot.tensor != "norm"}


def test_predicted_bytes_count_every_part() -> None:
    tensor = int4_tensor(64, 64)
    packed = sum(len(PACKINGS[packings[0]].pack(array)) for _, packings, array in pte.parts(tensor))
    assert carried.part_bytes(tensor.plan, (64, 64)) == packed
    shapes = {"model.embed_tokens.weight": (100, 64), "model.layers.0.mlp.up_proj.weight": (64, 64)}
    plan = QuantPlan(
        {"model.embed_tokens.weight": TensorPlan("int8"), "model.layers.0.mlp.up_proj.weight": tensor.plan}, tied=True
    )
    untied = QuantPlan(plan.tensors, tied=False)
    table = carried.part_bytes(TensorPlan("int8"), (100, 64))
    one, both = (pte.predict_bytes(p, shapes, {"num_hidden_layers": 1}, 64) for p in (untied, plan))
    assert both - one == table == 100 * 64 + 400


def test_what_has_no_slot_was_not_seen(tmp_path: Path) -> None:
    """A table that leaves out a part, or a whole tensor, proves nothing about it."""
    weights = Weights({"linear": int4_tensor(), "table": int8_tensor()})
    data, slots = laid_out(weights)
    path = tmp_path / "model.pte"
    path.write_bytes(data)
    for part in ("codes", "scale", "offset_codes", "offset_scale"):
        seen = tuple(slot for slot in slots if (slot.tensor, slot.part) != ("linear", part))
        assert pte.read_back(path, seen, weights) == {"linear": False, "table": True}
    assert pte.read_back(path, (*slots, slots[0]), weights) == {"linear": False, "table": True}
    assert pte.read_back(path, (), weights) == {"linear": False, "table": False}


def test_a_tied_head_is_read_back_on_its_own(tmp_path: Path) -> None:
    class Tied(Weights):
        plan = QuantPlan({EMBEDDING: TensorPlan("int8")}, tied=True)

        def __init__(self, table: QuantizedTensor) -> None:
            self.tensors = {EMBEDDING: table, HEAD: table}

    weights = Tied(int8_tensor())
    data, slots = laid_out(weights)
    path = tmp_path / "model.pte"
    path.write_bytes(data)
    assert pte.read_back(path, tuple(slots), weights) == {EMBEDDING: True, HEAD: True}
    assert pte.read_back(path, tuple(slots[:2]), weights) == {EMBEDDING: True, HEAD: False}


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\0\0\0\0ET12eh00" + b"\xff" * 100])
def test_what_is_no_program_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptModelError, match=r"model\.pte"):
        pte.read_layout(data)


@pytest.mark.parametrize("root", [None, 5_000, 2**31 - 1])
def test_a_damaged_program_is_named_and_not_a_defect(tmp_path: Path, root: int | None) -> None:
    """An empty file, and programs whose first table lies outside of them."""
    path = tmp_path / "model.pte"
    header = struct.pack("<I4s4sIQQQ", root or 0, b"ET12", b"eh00", 32, 0, 0, 0)
    path.write_bytes(b"" if root is None else header + bytes(100))
    with pytest.raises(CorruptModelError, match=r"model\.pte is damaged"):
        list(pte_inspect.tensors(path))
