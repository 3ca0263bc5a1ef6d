"""Writes small .mlpackages by hand, so that the reader and the evaluator are tested without any converter.

A program is a list of `op(...)`; constants are numpy arrays (in the program itself) or `in_blob(array)`.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DATA_TYPES = {
    "bool": 1, "string": 2, "float16": 10, "float32": 11, "int8": 21, "int16": 22, "int32": 23, "int4": 25,
    "uint8": 31, "uint16": 32, "uint32": 33, "uint4": 35, "uint2": 36, "uint1": 37, "uint6": 38, "uint3": 39,
}  # fmt: skip
BLOB_TYPES = {
    "float16": 1, "float32": 2, "uint8": 3, "int8": 4, "int4": 8, "uint1": 9, "uint2": 10, "uint4": 11, "uint3": 12,
    "uint6": 13,
}  # fmt: skip
ARRAY_TYPES = {"float32": 65568, "int32": 131104, "float16": 65552}
NARROW = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}
Shape = Sequence[int | None]


# --- the wire format ----------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def chunk(tag: int, *content: bytes | str) -> bytes:
    data = b"".join(part.encode() if isinstance(part, str) else part for part in content)
    return varint(tag << 3 | 2) + varint(len(data)) + data


def mapping(tag: int, entries: Mapping[str, bytes]) -> bytes:
    return b"".join(chunk(tag, chunk(1, key), chunk(2, value)) for key, value in entries.items())


# --- programs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InBlob:
    array: np.ndarray
    dtype: str


def in_blob(array: np.ndarray, dtype: str | None = None) -> InBlob:
    """A constant for the blob file; dtype: of a type narrower than a byte, e.g. int4."""
    return InBlob(array, dtype or str(array.dtype))


@dataclass
class Op:
    type: str
    outputs: Sequence[tuple[str, str, Shape]]
    inputs: Mapping[str, Any]
    blocks: Sequence[bytes] = ()


def op(kind: str, outputs: Sequence[tuple[str, str, Shape]] | tuple[str, str, Shape], **inputs: Any) -> Op:
    """outputs: (name, dtype, shape), or a list of them. inputs: the name of a value, a list of names, or a constant.
    A `const` and the constexpr operations take theirs as attributes."""
    return Op(kind, [outputs] if isinstance(outputs, tuple) else outputs, inputs)


def tensor_type(dtype: str, shape: Shape) -> bytes:
    dimensions = b"".join(
        chunk(3, chunk(2) if size is None else chunk(1, number(1, size) if size else b"")) for size in shape
    )
    return chunk(1, number(1, DATA_TYPES[dtype]), number(2, len(shape)), dimensions)


def named(name: str, type_: bytes) -> bytes:
    return chunk(1, name) + chunk(2, type_)


def pack_narrow(array: np.ndarray, bits: int) -> bytes:
    """Numbers of `bits` bits, the first in the lowest bits."""
    values = array.reshape(-1).astype(np.int64) & ((1 << bits) - 1)
    single = (values[:, None] >> np.arange(bits)) & 1
    return np.packbits(single.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


@dataclass
class Builder:
    """Collects blobs while constants are written."""

    data: bytearray = field(default_factory=lambda: bytearray(64))
    count: int = 0

    def add(self, blob: InBlob) -> int:
        content = pack_narrow(blob.array, NARROW[blob.dtype]) if blob.dtype in NARROW else blob.array.tobytes()
        offset = len(self.data)
        self.data += struct.pack("<IIQQQ32x", 0xDEADBEEF, BLOB_TYPES[blob.dtype], len(content), offset + 64, 0)
        self.data += content + bytes(-len(content) % 64)
        self.count += 1
        return offset

    def file(self) -> bytes:
        self.data[:8] = struct.pack("<II", self.count, 2)
        return bytes(self.data)

    def value(self, constant: Any) -> bytes:
        if isinstance(constant, InBlob):
            where = chunk(5, chunk(1, "@model_path/weights/weight.bin"), number(2, self.add(constant)))
            return chunk(2, tensor_type(constant.dtype, constant.array.shape)) + where
        if isinstance(constant, str):
            return chunk(2, tensor_type("string", ())) + chunk(3, chunk(1, chunk(4, chunk(1, constant))))
        array = np.asarray(constant)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        if array.dtype == np.int64:
            array = array.astype(np.int32)
        if array.dtype == np.float32:
            content = chunk(1, chunk(1, array.tobytes()))
        elif array.dtype in (np.int32, np.bool_):
            tag = 2 if array.dtype == np.int32 else 3
            content = chunk(tag, chunk(1, b"".join(varint(int(value)) for value in array.reshape(-1))))
        else:
            content = chunk(7, chunk(1, array.tobytes()))
        return chunk(2, tensor_type(str(array.dtype), array.shape)) + chunk(3, chunk(1, content))

    def operation(self, operation: Op) -> bytes:
        constant = operation.type == "const" or operation.type.startswith("constexpr_")
        attributes = {"name": self.value(f"op_{operation.outputs[0][0]}")} if operation.outputs else {}
        inputs: dict[str, bytes] = {}
        for part, given in operation.inputs.items():
            if constant and not isinstance(given, str):
                attributes[part] = self.value(given)
                continue
            bindings = given if isinstance(given, list) else [given]
            is_name = [isinstance(binding, str) and not binding.startswith("=") for binding in bindings]
            inputs[part] = b"".join(
                chunk(1, chunk(1, binding) if name else chunk(2, self.value(_literal(binding))))
                for binding, name in zip(bindings, is_name, strict=True)
            )
        outputs = [chunk(3, named(name, tensor_type(dtype, shape))) for name, dtype, shape in operation.outputs]
        blocks = [chunk(4, block) for block in operation.blocks]
        return b"".join([chunk(1, operation.type), mapping(2, inputs), *outputs, *blocks, mapping(5, attributes)])

    def block(self, operations: Sequence[Op], outputs: Sequence[str], inputs: Sequence[bytes] = ()) -> bytes:
        return b"".join(
            [
                *(chunk(1, entry) for entry in inputs),
                *(chunk(2, name) for name in outputs),
                *(chunk(3, self.operation(operation)) for operation in operations),
            ]
        )


def _literal(binding: Any) -> Any:
    """A string constant is written with a leading =, since a plain string is a name."""
    return binding[1:] if isinstance(binding, str) else binding


def feature(name: str, dtype: str, shape: Sequence[int], ranges: Sequence[tuple[int, int]] = (), state: bool = False):
    limits = b"".join(chunk(1, number(1, least), number(2, most)) for least, most in ranges)
    array = b"".join(number(1, size) for size in shape) + number(2, ARRAY_TYPES[dtype])
    array += chunk(31, limits) if ranges else b""
    return chunk(1, name) + chunk(3, chunk(8, chunk(1, array)) if state else chunk(5, array))


def write_package(
    path: Path,
    operations: Sequence[Op],
    outputs: Sequence[str],
    inputs: Mapping[str, tuple[str, Sequence[int]]] | None = None,
    ranges: Mapping[str, Sequence[tuple[int, int]]] | None = None,
    states: Mapping[str, Sequence[int]] | None = None,
    builder: Builder | None = None,
) -> Path:
    """A package of one function `main`. inputs: name -> (dtype, default shape). states: name -> shape of float16."""
    inputs, ranges, states, builder = inputs or {}, ranges or {}, states or {}, builder or Builder()
    declared = {output: (dtype, shape) for item in operations for output, dtype, shape in item.outputs}
    block = builder.block(operations, outputs)
    variables = [
        named(name, tensor_type(dtype, [None] * len(shape) if name in ranges else shape))
        for name, (dtype, shape) in inputs.items()
    ]
    variables += [named(name, chunk(5, chunk(1, tensor_type("float16", shape)))) for name, shape in states.items()]
    function = b"".join(chunk(1, variable) for variable in variables) + chunk(2, "CoreML8")
    function += mapping(3, {"CoreML8": block})
    description = b"".join(
        [
            *(chunk(1, feature(name, dtype, shape, ranges.get(name, ()))) for name, (dtype, shape) in inputs.items()),
            *(
                chunk(10, feature(name, declared[name][0], [size or 1 for size in declared[name][1]]))
                for name in outputs
                if declared[name][0] in ARRAY_TYPES
            ),
            *(chunk(13, feature(name, "float16", shape, state=True)) for name, shape in states.items()),
        ]
    )
    model = number(1, 9) + chunk(2, description) + chunk(502, number(1, 1), mapping(2, {"main": function}))
    data = path / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(model)
    (data / "weights" / "weight.bin").write_bytes(builder.file())
    entry = {"path": "com.apple.CoreML/model.mlmodel", "name": "model.mlmodel"}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {"1": entry}, "rootModelIdentifier": "1"}
    (path / "Manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path
