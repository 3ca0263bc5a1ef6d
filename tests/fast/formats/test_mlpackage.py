"""Reading an .mlpackage: the wire format, the program, the blob file, what is listed of it, what is refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from satchel.commands import inspect
from satchel.errors import CorruptModelError, UnsupportedModelError
from satchel.formats.mlpackage_blobs import bits_of, unpack
from satchel.formats.mlpackage_program import Blob, Immediate, Package, read_program
from satchel.formats.protobuf import Message
from tiny_package import Builder, chunk, in_blob, number, op, pack_narrow, varint, write_package

random = np.random.default_rng(10)
CODES = random.integers(-8, 8, (4, 32), dtype=np.int8)
SCALE = random.uniform(0.1, 1, (4, 1)).astype(np.float16)
ELSEWHERE = json.dumps({"itemInfoEntries": {"1": {"path": "../secret"}}, "rootModelIdentifier": "1"}).encode()
TABLE = random.normal(size=(10, 32)).astype(np.float16)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A table that is gathered from, and an int4 linear."""
    operations = [
        op("const", ("table", "float16", (10, 32)), val=in_blob(TABLE)),
        op("const", ("rows", "int32", (2,)), val=np.array([0, -1])),
        op("gather", ("x", "float16", (1, None, 32)), x="table", indices="ids", axis=np.int32(0)),
        op(
            "constexpr_blockwise_shift_scale",
            ("weight", "float16", (4, 32)),
            data=in_blob(CODES, "int4"),
            scale=in_blob(SCALE),
        ),
        op("linear", ("logits", "float16", (1, None, 4)), x="x", weight="weight"),
    ]
    return write_package(
        tmp_path / "model.mlpackage",
        operations,
        ["logits"],
        inputs={"ids": ("int32", (1, 1))},
        ranges={"ids": ((1, 1), (1, 8))},
        states={"cache": (2, 3)},
    )


def test_the_program_is_read_as_it_is_written(package: Path) -> None:
    program = Package.open(package).program
    function = program.functions["main"]
    assert (program.specification_version, program.default_function, function.opset) == (9, "main", "CoreML8")
    (ids,) = function.input_features
    assert [ids.admits(shape) for shape in [(1, 1), (1, 8), (1, 9), (2, 1), (1,)]] == [True, True, False, False, False]
    (cache,) = function.state_features
    assert (cache.name, cache.kind, cache.dtype, cache.shape) == ("cache", "state", "float16", (2, 3))
    assert [str(variable.type) for variable in function.inputs] == ["int32[?x?]", "float16[2x3]"]
    table, rows, gather, weight, linear = function.block.operations
    assert isinstance(rows.attributes["val"], Immediate)
    assert rows.attributes["val"].value.tolist() == [0, -1]
    assert (gather.name, gather.inputs["x"], str(gather.outputs[0].type)) == ("op_x", ("table",), "float16[1x?x32]")
    assert isinstance(gather.inputs["axis"][0], Immediate)
    assert linear.inputs["weight"] == ("weight",)
    assert isinstance(table.attributes["val"], Blob)
    assert sorted(weight.attributes) == ["data", "name", "scale"]
    assert function.block.outputs == ("logits",)


def test_blobs_are_read_by_the_position_of_their_metadata(package: Path) -> None:
    opened = Package.open(package)
    blobs = {part: blob for operation, part, blob in opened.program.functions["main"].blobs()}
    file = opened.blob_file(blobs["data"].file)
    assert file.array(blobs["val"].offset, (10, 32)).tobytes() == TABLE.tobytes()
    assert (file.array(blobs["data"].offset, (4, 32)) == CODES).all()
    region = file.region(blobs["data"].offset)
    assert (region.dtype, region.bytes, region.start % 64) == ("int4", 64, 0)
    assert file.path.read_bytes()[region.start : region.start + 64] == pack_narrow(CODES, 4)
    assert [offset for offset, _ in file.regions()] == sorted(blob.offset for blob in blobs.values())
    with pytest.raises(CorruptModelError, match=r"does not hold \(5, 32\)"):
        file.array(blobs["data"].offset, (5, 32))


@pytest.mark.parametrize(("dtype", "least", "most"), [
    ("int4", -8, 7), ("uint1", 0, 1), ("uint2", 0, 3), ("uint3", 0, 7), ("uint4", 0, 15), ("uint6", 0, 63),
])  # fmt: skip
def test_narrow_numbers_are_unpacked(dtype: str, least: int, most: int) -> None:
    values = random.integers(least, most + 1, (3, 7))
    found = unpack(pack_narrow(values, bits_of(dtype)), dtype, (3, 7))
    assert found.tolist() == values.tolist()
    assert found.dtype == (np.int8 if dtype == "int4" else np.uint8)


def test_a_listing_says_what_every_constant_is_and_who_reads_it(package: Path) -> None:
    listing = inspect.inspect(package)
    assert [(row.name, row.part, row.dtype, row.shape, row.bytes, row.used_as) for row in listing.tensors] == [
        ("op_table", "values", "float16", (10, 32), 640, "embedding"),
        ("op_weight", "codes", "int4", (4, 32), 64, "linear"),
        ("op_weight", "scale", "float16", (4, 1), 8, ""),
    ]
    assert [tensor["bits"] for tensor in listing.to_dict()["tensors"]] == [16, 4, 16]
    assert listing.rows[1] == ("op_weight", "codes", "int4", "4x32", "64", "4", "linear")
    facts = listing.artifacts["model.mlpackage"]
    assert facts["bytes"] == sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
    assert facts["summary"] == "1 embedding float16, 1 linear int4"


def test_every_truncation_and_every_flipped_byte_reads_or_is_refused(package: Path) -> None:
    data = Package.open(package).model.read_bytes()
    for length in range(len(data)):
        with pytest.raises((CorruptModelError, UnsupportedModelError), match="model"):
            read_program(data[:length])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        try:
            read_program(bytes(damaged))
        except (CorruptModelError, UnsupportedModelError):
            continue


@pytest.mark.parametrize(("name", "content", "said"), [
    ("Manifest.json", b"{", "no Core ML package"),
    ("Manifest.json", ELSEWHERE, "secret"),
    ("Data/com.apple.CoreML/model.mlmodel", number(1, 4) + chunk(500, b""), "no ML Program"),
    ("Data/com.apple.CoreML/model.mlmodel", b"\xff", "damaged or truncated"),
    ("Data/com.apple.CoreML/weights/weight.bin", b"", "missing or truncated"),
    ("Data/com.apple.CoreML/weights/weight.bin", struct.pack("<II56x", 1, 1), "of version 2, but of 1"),
    ("Data/com.apple.CoreML/weights/weight.bin", struct.pack("<II56x", 3, 2), "no blob at 64"),
    ("Data/com.apple.CoreML/weights/weight.bin", struct.pack("<II56x", 3, 2) + bytes(200), "no whole blob at 64"),
])  # fmt: skip
def test_what_is_damaged_is_refused(package: Path, name: str, content: bytes, said: str) -> None:
    (package / name).write_bytes(content)
    with pytest.raises((CorruptModelError, UnsupportedModelError), match=said):
        inspect.inspect(package)


def test_a_blob_outside_of_the_package_is_refused(package: Path) -> None:
    model = package / "Data/com.apple.CoreML/model.mlmodel"
    name = b"@model_path/weights/weight.bin"
    model.write_bytes(model.read_bytes().replace(name, b"@model_path/../../../../x".ljust(len(name), b"y")))
    with pytest.raises(CorruptModelError, match="outside of it"):
        inspect.inspect(package)


def test_a_field_of_the_wire_format_has_its_type() -> None:
    message = Message(number(1, -5) + chunk(2, varint(3), varint(300)) + chunk(3, "a") + chunk(3, "b"))
    assert (message.integer(1), message.integer(9), message.string(9)) == (-5, 0, "")
    assert (message.integers(1), message.integers(2), message.strings(3)) == ([-5], [3, 300], ["a", "b"])
    assert (message.string(3), message.has(3), message.has(4)) == ("b", True, False)
    for wrong in (lambda: message.string(1), lambda: message.integer(2), lambda: list(message.messages(1))):
        with pytest.raises(ValueError, match="another type"):
            wrong()


def test_a_multi_function_description_is_read_by_name() -> None:
    """A model of several functions describes each under its own name, in fields of other numbers."""
    builder = Builder()
    block = builder.block([op("const", ("y", "int32", ()), val=np.int32(3))], ["y"])
    function = chunk(2, "CoreML8") + chunk(3, chunk(1, "CoreML8"), chunk(2, block))
    array = number(1, 4) + number(2, 131104)
    described = chunk(20, chunk(1, "two"), chunk(2, chunk(1, "n"), chunk(3, chunk(5, array))))
    functions = b"".join(chunk(2, chunk(1, name), chunk(2, function)) for name in ("one", "two"))
    program = read_program(chunk(2, described, chunk(21, "two")) + chunk(502, functions))
    assert program.default_function == "two"
    assert [feature.name for feature in program.functions["two"].input_features] == ["n"]
    assert program.functions["one"].input_features == ()
