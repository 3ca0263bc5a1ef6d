"""Reads a .pte's tensors from the file alone: what its XNNPACK delegates declare, and what lies outside of them.

The delegates' payloads (`XH00` header, then a flatbuffer of `backends/xnnpack/serialization/schema.fbs`, ExecuTorch
1.5.1) say of every constant its data type, shape, content key, and which operator reads it. That is evidence
independent of our own table of slots, which only adds the tensors' names.
"""

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flatbuffers import number_types

from satchel.errors import CorruptModelError
from satchel.formats.flatbuffer import Table
from satchel.formats.pte import Layout, content_of, read_layout

# enum XNNDatatype
_DATATYPES = {
    1: "float32", 2: "float16", 3: "int8", 4: "uint8", 5: "int32", 6: "int8", 7: "int32", 8: "int4", 9: "int8",
    10: "int4", 12: "int32", 14: "bfloat16",
}  # fmt: skip
_FULLY_CONNECTED = 2  # position in union XNodeUnion (0 is NONE)
_QUANTIZED_VALUE = 2  # position in union XValueUnion
# position in union XNNQuantParams -> fields scale_buffer_idx and num_scales, and the scales' dtype
_SCALE_FIELDS = {1: (2, 3, "float32"), 4: (4, 5, "bfloat16")}  # PerChannelQuant, PerChannelGroupQuant


@dataclass(frozen=True)
class StoredTensor:
    """One constant of the file; see satchel.commands.inspect.TensorRow."""

    name: str
    part: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    used_as: str


def tensors(file: Path, slots: Path | None = None) -> Iterator[StoredTensor]:
    """Every constant of the .pte in order of its position. slots: the bundle's slots.json, which names them.

    Raises CorruptModelError if the file is no .pte or is damaged.
    """
    try:
        names = slot_names(slots) if slots is not None else {}
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            layout = read_layout(data, file.name)
            declared: dict[str, StoredTensor] = {}
            for start, size in layout.payloads:
                for key, tensor in _delegate(data[start : start + size], file.name):
                    declared.setdefault(key, tensor)
            found = sorted(_located(layout, declared, names), key=lambda tensor: (tensor.name, tensor.part))
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:  # a position or number out of bounds
        where = file if slots is None else f"{file} or {slots}"
        raise CorruptModelError(f"{where} is damaged ({error}): build it again") from error
    yield from found


def _located(
    layout: Layout, declared: Mapping[str, StoredTensor], names: Mapping[int, tuple[str, str, str, tuple[int, ...]]]
) -> Iterator[StoredTensor]:
    for key, (offset, size) in layout.named.items():
        tensor = declared.get(key, StoredTensor(key, "data", "bytes", (size,), size, ""))
        name, part, _, shape = names.get(offset, (f"constant {content_of(key)[:12]}", _part(tensor), "", tensor.shape))
        yield StoredTensor(name, part, tensor.dtype, shape or tensor.shape, size, tensor.used_as)
    for offset, size in layout.constants:
        if offset in names:
            name, part, dtype, shape = names[offset]
            yield StoredTensor(name, part, dtype, shape, size, "embedding" if len(shape) == 2 else "")
        elif size:
            yield StoredTensor(f"constant at {offset}", "constant", "bytes", (size,), size, "")


def _part(tensor: StoredTensor) -> str:
    return "scale" if tensor.part == "scale" else "constant"


def slot_names(slots: Path) -> dict[int, tuple[str, str, str, tuple[int, ...]]]:
    """offset in the file -> (tensor, part, dtype, shape)"""
    table = json.loads(slots.read_text(encoding="utf-8"))
    return {
        slot["offset"]: (slot["tensor"], slot["part"], slot["packing"].removesuffix("_plus_one"), tuple(slot["shape"]))
        for slot in table["slots"]
    }


def _delegate(payload: bytes, name: str) -> Iterator[tuple[str, StoredTensor]]:
    """(content key, tensor) of every constant in one XNNPACK payload."""
    if payload[4:8] != b"XH00":
        raise CorruptModelError(f"{name} holds a delegate that is not XNNPACK's: it can't be inspected")
    (start,) = struct.unpack_from("<I", payload, 10)
    graph = Table.root(payload, start)
    keys = [entry.string(2) for entry in graph.tables(8)]
    filters = set()
    for node in graph.tables(1):
        if node.integer(0, number_types.Uint8Flags) == _FULLY_CONNECTED:
            operator = node.union(1)
            if operator is not None:
                filters.add(operator.integer(1))
    for value in graph.tables(2):
        wrapped = value.union(1)
        if wrapped is None:
            continue
        quantized = value.integer(0, number_types.Uint8Flags) == _QUANTIZED_VALUE
        base = wrapped.table(0) if quantized else wrapped
        if base is None or not base.integer(3):
            continue
        key = keys[base.integer(3)]
        used_as = "linear" if base.integer(6) in filters else ""
        dtype = _DATATYPES.get(base.integer(0, number_types.Int16Flags), "unknown")
        shape = tuple(base.integers(2))
        part = "codes" if quantized else "values"
        yield key, StoredTensor(key, part, dtype, shape, 0, used_as)
        if quantized:
            yield from _scales(wrapped, keys)


def _scales(value: Table, keys: list[str]) -> Iterator[tuple[str, StoredTensor]]:
    """The scale buffer that a quantized value's parameters point to, if there is one."""
    fields = _SCALE_FIELDS.get(value.integer(1, number_types.Uint8Flags))
    parameters = value.union(2)
    if fields is None or parameters is None:
        return
    buffer_field, count_field, dtype = fields
    key = keys[parameters.integer(buffer_field)]
    yield key, StoredTensor(key, "scale", dtype, (parameters.integer(count_field),), 0, "")
