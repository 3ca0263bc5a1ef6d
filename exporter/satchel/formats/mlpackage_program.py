"""The ML Program of an .mlpackage: its functions, operations, types and constants, as the file has them.

An .mlpackage is a folder: Manifest.json names the model file, which is a protocol buffer (Model.proto, MIL.proto and
FeatureTypes.proto of coremltools; field numbers here are theirs), and weights/ beside it holds the large constants
(`mlpackage_blobs`). Nothing is simplified or renamed on the way.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import CorruptModelError, UnsupportedModelError
from satchel.files import files_below
from satchel.formats.mlpackage_blobs import WHOLE_TYPES, BlobFile, unpack
from satchel.formats.protobuf import Message

SUFFIX = ".mlpackage"
MANIFEST = "Manifest.json"
_ML_PROGRAM = 502  # in Model.Type

# enum MILSpec.DataType
_DATA_TYPES = {
    1: "bool", 2: "string", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 21: "int8", 22: "int16",
    23: "int32", 24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4",
    36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3", 40: "float8_e4m3fn", 41: "float8_e5m2",
}  # fmt: skip
# enum ArrayFeatureType.ArrayDataType
_ARRAY_TYPES = {65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8", 65552: "float16"}


# --- types and values ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueType:
    """kind: tensor | list | tuple | dictionary | state. dtype and shape: of a tensor, or of the tensor in a state; a
    dimension that is only known at run time is None. A scalar is a tensor of shape (). items: of the other kinds."""

    kind: str
    dtype: str = ""
    shape: tuple[int | None, ...] = ()
    items: tuple["ValueType", ...] = ()

    def __str__(self) -> str:
        dimensions = "x".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype}[{dimensions}]" if self.dtype else self.kind


@dataclass(frozen=True)
class Variable:
    """A named value and its declared type."""

    name: str
    type: ValueType


@dataclass(frozen=True)
class Immediate:
    """A constant in the program itself: array of the declared shape (0-d for a scalar), str, or tuple of constants."""

    type: ValueType
    value: Any


@dataclass(frozen=True)
class Blob:
    """A constant in a blob file of the package's weights folder; offset: of its metadata."""

    type: ValueType
    file: str
    offset: int


Value = Immediate | Blob


# --- operations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """inputs: each a tuple, because some take several; an element is the name of a value, or a constant."""

    type: str
    inputs: Mapping[str, tuple[str | Value, ...]]
    outputs: tuple[Variable, ...]
    attributes: Mapping[str, Value]
    blocks: tuple["Block", ...] = ()

    @property
    def name(self) -> str:
        """Its own name, which the converter gives it, else that of its first output."""
        given = self.attributes.get("name")
        if isinstance(given, Immediate):
            return str(given.value)
        return self.outputs[0].name if self.outputs else self.type


@dataclass(frozen=True)
class Block:
    """inputs: names that its operations may use beside those of the blocks around it. outputs: names of its results."""

    inputs: tuple[Variable, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]

    def walk(self) -> Iterator[Operation]:
        """All operations in order, those of nested blocks before the operation that has them."""
        for operation in self.operations:
            for block in operation.blocks:
                yield from block.walk()
            yield operation


@dataclass(frozen=True)
class Feature:
    """An input, output or state of the model as an app sees it.

    kind: multiArray | image | state | ... shape: the default. ranges: (least, most) per dimension, most -1 for no
    limit; empty if the shape is fixed or enumerated. enumerated: the allowed shapes, empty if there is no such list.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...] = ()
    enumerated: tuple[tuple[int, ...], ...] = ()
    optional: bool = False

    def admits(self, shape: tuple[int, ...]) -> bool:
        """True if an array of this shape may be given."""
        if self.enumerated:
            return shape in self.enumerated
        if not self.ranges:
            return shape == self.shape or not self.shape
        return len(shape) == len(self.ranges) and all(
            least <= size and (most < 0 or size <= most) for size, (least, most) in zip(shape, self.ranges, strict=True)
        )


@dataclass(frozen=True)
class Function:
    """One entry of the program. features: what an app sees of it; inputs: the names and types inside."""

    name: str
    opset: str
    inputs: tuple[Variable, ...]
    block: Block
    input_features: tuple[Feature, ...]
    output_features: tuple[Feature, ...]
    state_features: tuple[Feature, ...]

    def blobs(self) -> Iterator[tuple[Operation, str, Blob]]:
        """(operation, its input or attribute, constant) of every constant that lies in a blob file."""
        for operation in self.block.walk():
            constants: list[tuple[str, str | Value]] = [*operation.attributes.items()]
            constants += [(part, value) for part, values in operation.inputs.items() for value in values]
            yield from ((operation, part, value) for part, value in constants if isinstance(value, Blob))


@dataclass(frozen=True)
class Program:
    """A model file's contents. metadata: the user-defined strings, sorted by key."""

    specification_version: int
    functions: Mapping[str, Function]
    default_function: str
    metadata: Mapping[str, str]


# --- the folder ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    """An .mlpackage on disk. model: its model file."""

    path: Path
    model: Path

    @classmethod
    def open(cls, path: Path) -> "Package":
        """Raises CorruptModelError if there is no manifest, or if it names no model file inside the package."""
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            inside = PurePosixPath(manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CorruptModelError(f"{path} is no Core ML package: {MANIFEST} is missing or damaged") from error
        model = path / "Data" / inside
        if inside.is_absolute() or ".." in inside.parts or not model.is_file():
            raise CorruptModelError(f"{path}: {MANIFEST} names {inside}, which is no file of the package")
        return cls(path, model)

    @cached_property
    def program(self) -> Program:
        """Raises CorruptModelError if it is damaged, UnsupportedModelError if it is no ML Program."""
        return read_program(self.model.read_bytes(), str(self.path))

    def blob_file(self, name: str) -> BlobFile:
        """The blob file that a Blob names (`@model_path/weights/weight.bin`)."""
        return BlobFile(self.model.parent / self.blob_path(name))

    def blob_path(self, name: str) -> PurePosixPath:
        """Its path relative to the model file. Raises CorruptModelError if it leads out of the package."""
        inside = PurePosixPath(name.removeprefix("@model_path/"))
        if inside.is_absolute() or ".." in inside.parts:
            raise CorruptModelError(f"{self.path} names a blob file outside of it: {name}")
        return inside

    def files(self) -> list[Path]:
        """All files of the package, sorted by path."""
        return files_below(self.path)


def read_program(data: bytes, name: str = "the model") -> Program:
    """The ML Program in a model file. Raises CorruptModelError and UnsupportedModelError, see Package.program."""
    try:
        model = Message(data)
        if not model.has(_ML_PROGRAM):
            raise UnsupportedModelError(f"{name} holds no ML Program; models of older kinds can't be read")
        return _program(model)
    except (ValueError, KeyError, TypeError, OverflowError, StopIteration, RecursionError) as error:
        raise CorruptModelError(f"{name} is damaged or truncated ({error}): build or fetch it again") from error


# --- from protocol buffers ----------------------------------------------------------------------------------------


def _program(model: Message) -> Program:
    description, program = model.message(2), model.message(_ML_PROGRAM)
    described = {entry.string(1): entry for entry in description.messages(20)}
    functions = {}
    for name, message in program.mapping(2).items():
        # A model of one function describes it at the top; field numbers differ from those of a named function's.
        entry = described.get(name)
        features = (
            [list(map(_feature, entry.messages(field))) for field in (2, 3, 6)]
            if entry is not None
            else [list(map(_feature, description.messages(field))) for field in (1, 10, 13)]
        )
        functions[name] = _function(name, message, features)
    default = description.string(21) or next(iter(functions))
    metadata = {entry.string(1): entry.string(2) for entry in description.message(100).messages(100)}
    return Program(model.integer(1), functions, default, dict(sorted(metadata.items())))


def _function(name: str, message: Message, features: list[list[Feature]]) -> Function:
    opset = message.string(2)
    inputs, outputs, states = map(tuple, features)
    block = _block(message.mapping(3)[opset])
    return Function(name, opset, tuple(map(_variable, message.messages(1))), block, inputs, outputs, states)


def _block(message: Message) -> Block:
    return Block(
        tuple(map(_variable, message.messages(1))),
        tuple(message.strings(2)),
        tuple(map(_operation, message.messages(3))),
    )


def _operation(message: Message) -> Operation:
    return Operation(
        type=message.string(1),
        inputs={name: tuple(map(_binding, entry.messages(1))) for name, entry in message.mapping(2).items()},
        outputs=tuple(map(_variable, message.messages(3))),
        attributes={name: _value(entry) for name, entry in message.mapping(5).items()},
        blocks=tuple(map(_block, message.messages(4))),
    )


def _binding(message: Message) -> str | Value:
    return _value(message.message(2)) if message.has(2) else message.string(1)


def _variable(message: Message) -> Variable:
    return Variable(message.string(1), _type(message.message(2)))


def _type(message: Message) -> ValueType:
    if message.has(1):
        tensor = message.message(1)
        return ValueType("tensor", _DATA_TYPES[tensor.integer(1)], tuple(map(_dimension, tensor.messages(3))))
    if message.has(5):
        wrapped = _type(message.message(5).message(1))
        return ValueType("state", wrapped.dtype, wrapped.shape)
    if message.has(2):
        return ValueType("list", items=(_type(message.message(2).message(1)),))
    if message.has(3):
        return ValueType("tuple", items=tuple(map(_type, message.message(3).messages(1))))
    if not message.has(4):
        raise ValueError("a value without a type")
    dictionary = message.message(4)
    return ValueType("dictionary", items=(_type(dictionary.message(1)), _type(dictionary.message(2))))


def _dimension(message: Message) -> int | None:
    return message.message(1).integer(1) if message.has(1) else None


def _value(message: Message) -> Value:
    declared = _type(message.message(2))
    if message.has(5):
        blob = message.message(5)
        return Blob(declared, blob.string(1), blob.integer(2))
    return Immediate(declared, _immediate(message.message(3), declared))


def _immediate(message: Message, declared: ValueType) -> Any:
    if message.has(1):
        return _tensor(message.message(1), declared)
    if message.has(4):
        pairs = message.message(4).messages(1)
        return tuple((_value(pair.message(1)), _value(pair.message(2))) for pair in pairs)
    return tuple(map(_value, message.message(2 if message.has(2) else 3).messages(1)))


def _tensor(message: Message, declared: ValueType) -> NDArray[Any] | str:
    """TensorValue: floats 1, ints 2, bools 3, strings 4, long ints 5, doubles 6, bytes 7."""
    shape = tuple(size or 0 for size in declared.shape)
    if declared.dtype == "string":
        strings = message.message(4).strings(1)
        return np.array(strings, dtype=object).reshape(shape) if shape else "".join(strings)
    if message.has(7):
        return unpack(message.message(7).bytes(1), declared.dtype, shape)
    values: Any
    if message.has(1):
        values = message.message(1).floats(1, np.float32)
    elif message.has(6):
        values = message.message(6).floats(1, np.float64)
    else:
        values = next((message.message(field).integers(1) for field in (2, 3, 5) if message.has(field)), [])
    dtype = WHOLE_TYPES.get(declared.dtype, np.int8 if declared.dtype == "int4" else np.uint8)
    return np.array(values).astype(dtype).reshape(shape)


def _feature(message: Message) -> Feature:
    described = message.message(3)
    optional = bool(described.integer(1000))
    kind, array = "multiArray", described.message(5)
    if described.has(8):
        kind, array = "state", described.message(8).message(1)
    elif described.has(4):
        image = described.message(4)
        size = (image.integer(2), image.integer(1))
        return Feature(message.string(1), "image", "", size, optional=optional)
    elif not described.has(5):
        return Feature(message.string(1), "other", "", (), optional=optional)
    ranges = tuple((entry.integer(1), entry.integer(2)) for entry in array.message(31).messages(1))
    enumerated = tuple(tuple(entry.integers(1)) for entry in array.message(21).messages(1))
    dtype = _ARRAY_TYPES.get(array.integer(2), "")
    return Feature(message.string(1), kind, dtype, tuple(array.integers(1)), ranges, enumerated, optional)
