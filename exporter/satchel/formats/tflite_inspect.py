"""Reads a .tflite's tensors from the file alone: every constant with the type, shape and operator it declares.

TFLite schema 3 (`schema.fbs`), by field number. The bundle's table of slots only adds the tensors' names.
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from flatbuffers import number_types

from satchel.errors import CorruptModelError
from satchel.formats.flatbuffer import Table
from satchel.formats.pte_inspect import StoredTensor, slot_names

_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 9: "int8", 17: "int4"}
_OPERATORS = {7: "embedding", 9: "linear", 36: "embedding"}  # EMBEDDING_LOOKUP, FULLY_CONNECTED, GATHER


def tensors(file: Path, slots: Path | None = None) -> Iterator[StoredTensor]:
    """Every constant of the .tflite. slots: the bundle's slots.json, which names them.

    Raises CorruptModelError if the file is no .tflite.
    """
    names = slot_names(slots) if slots is not None else {}
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[4:8] != b"TFL3":
            raise CorruptModelError(f"{file.name} is not a TFLite model: build it again")
        yield from sorted(_constants(Table.root(data), names), key=lambda tensor: (tensor.name, tensor.part))


def _constants(model: Table, names: Mapping[int, tuple[str, str, str, tuple[int, ...]]]) -> Iterator[StoredTensor]:
    places = [buffer.vector(0) for buffer in model.tables(4)]
    codes = [_builtin(code) for code in model.tables(1)]
    seen: set[int] = set()
    for graph in model.tables(2):
        readers = _readers(graph, codes)
        for index, tensor in enumerate(graph.tables(0)):
            buffer = tensor.integer(2)
            start, size = places[buffer]
            if not size or buffer in seen:
                continue
            seen.add(buffer)
            dtype = _TYPES.get(tensor.integer(1, number_types.Int8Flags), "unknown")
            shape = tuple(tensor.integers(0, number_types.Int32Flags))
            name, part, _, _ = names.get(start, (f"buffer {buffer}", "constant", "", ()))
            yield StoredTensor(name, part, dtype, shape, size, readers.get(index, ""))


def _builtin(code: Table) -> int:
    """Operator number; numbers above 126 are only in the newer field."""
    return max(code.integer(0, number_types.Int8Flags), code.integer(3, number_types.Int32Flags))


def _readers(graph: Table, codes: list[int]) -> dict[int, str]:
    """tensor index -> what the operators that read it do with it."""
    readers: dict[int, str] = {}
    for operator in graph.tables(3):
        kind = _OPERATORS.get(codes[operator.integer(0)])
        if kind is not None:
            for tensor in operator.integers(1, number_types.Int32Flags):
                readers[tensor] = kind
    return readers
