"""The values of a program that no input changes: constants and what is decompressed from them, read when first used."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from satchel.errors import CorruptModelError
from satchel.formats.mlpackage_blobs import BlobFile
from satchel.formats.mlpackage_program import Blob, Operation, Package, Value
from satchel.runtimes.mil.values import Array, Function, Inputs, computed, declared


def _blockwise_shift_scale(inputs: Inputs) -> Array:
    """scale * (data - offset), each scale for a block; the blocks' sizes follow from the shapes."""
    data, scale, offset = inputs["data"], inputs["scale"], inputs.get("offset")
    shape, split, spread = data.shape, [], []
    for size, blocks in zip(shape, scale.shape, strict=True):
        if size % blocks:
            raise ValueError(f"{size} values in {blocks} blocks")
        split += [blocks, size // blocks]
        spread += [blocks, 1]
    values: Array = data.astype(np.float32).reshape(split)
    if offset is not None:
        values -= offset.reshape(spread)
    values *= scale.reshape(spread)
    return values.reshape(shape)


# What is made of a compressed constant's codes and scales.
CONSTANTS: dict[str, Function] = {"constexpr_blockwise_shift_scale": _blockwise_shift_scale}
CONSTANT_OPERATIONS = {"const", *CONSTANTS}


class ConstantValues:
    """Name -> value, in the type that it is computed in. Each is read and decompressed once.

    Compressed constants become float32: four bytes a weight, for the fast kernels of numpy.
    """

    def __init__(self, package: Package, operations: Iterable[Operation], exact: bool) -> None:
        self._package = package
        self._exact = exact
        self._operations: dict[str, Operation] = {
            operation.outputs[0].name: operation for operation in operations if operation.type in CONSTANT_OPERATIONS
        }
        self._values: dict[str, Any] = {}
        self._files: dict[str, BlobFile] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._operations

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            value = self._stored(name)
            self._values[name] = computed(value) if isinstance(value, np.ndarray) else value
        return self._values[name]

    def literal(self, value: Value) -> Any:
        """A constant that stands in an operation's inputs, in the type that it is computed in."""
        found = self._read(value)
        return computed(found) if isinstance(found, np.ndarray) else found

    def _stored(self, name: str) -> Any:
        """In the type of the file where that saves memory: codes stay int8."""
        operation = self._operations[name]
        if operation.type == "const":
            return self._read(operation.attributes["val"])
        arguments: dict[str, Any] = {part: self._read(value) for part, value in operation.attributes.items()}
        arguments |= {part: self._argument(values[0]) for part, values in operation.inputs.items()}
        type_ = operation.outputs[0].type
        try:
            result = CONSTANTS[operation.type](Inputs(_floats(arguments), half=False))
            assert not isinstance(result, tuple)
            return declared(result, type_.dtype, self._exact) if result.dtype.kind == "f" else result
        except (IndexError, KeyError, ValueError, TypeError) as error:
            raise CorruptModelError(
                f"{operation.type} {operation.name} can't be decompressed as {type_}: {error}"
            ) from error

    def _argument(self, value: str | Value) -> Any:
        return self._stored(value) if isinstance(value, str) else self._read(value)

    def _read(self, value: Value) -> Any:
        if not isinstance(value, Blob):
            return value.value
        if value.file not in self._files:
            self._files[value.file] = self._package.blob_file(value.file)
        shape = tuple(size or 0 for size in value.type.shape)
        return self._files[value.file].array(value.offset, shape)


def _floats(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """float16 as float32: no number changes, and no product overflows before it is rounded."""
    return {
        name: value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
        for name, value in arguments.items()
    }
