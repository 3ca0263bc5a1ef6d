"""What a GGUF file says about itself: its metadata and where each tensor lies.

Source: the GGUF specification (ggml/docs/gguf.md), versions 2 and 3, little endian. `gguf.GGUFReader` reads the same,
but keeps three numpy objects for every string of the vocabulary (160 MB and 1.7 s for 100 000 strings) and walks off
the end of a truncated file; this reader takes plain Python values, and every length is checked against the file first.
What no language model needs (an array of arrays, millions of strings) is refused before it is made.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from satchel.errors import CorruptModelError, UnsupportedModelError
from satchel.source.gguf.beginnings import what_it_is_instead

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_BIG_ENDIAN_VERSIONS = tuple(version << 24 for version in _VERSIONS)
_MAX_DIMENSIONS = 4
# Bounds far above the largest real files (300 000 tokens and 500 000 merges; 100 layers of a dozen tensors).
_MAX_ENTRIES = 1 << 16  # of the metadata, and tensors
_MAX_ITEMS = 1 << 21  # of all arrays together
_MAX_STRING = 1 << 24  # bytes
_SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
    GGUFValueType.BOOL: "?",
}


@dataclass(frozen=True)
class GgufTensor:
    """One entry of the tensor table. `shape` has the slowest axis first, as numpy and Hugging Face write it."""

    name: str
    file: Path
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    start: int  # byte position in the file
    size: int  # bytes


@dataclass(frozen=True)
class GgufHeader:
    """Metadata as plain Python values (str, int, float, bool, lists of them), and the tensor table by name."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]


def read_header(path: Path) -> GgufHeader:
    """Parse the file's header.

    Raises CorruptModelError if it is no GGUF file, truncated or inconsistent, UnsupportedModelError if it is of a byte
    order or format version that is not read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if start[: len(_MAGIC)] != _MAGIC:
        raise CorruptModelError(f"{path.name} is not a GGUF file: {what_it_is_instead(start)}")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Parser(path, data).header()
        except _BadHeaderError as problem:
            raise CorruptModelError(f"{path.name} is truncated or damaged: {problem}. Download it again.") from problem


class _BadHeaderError(Exception):
    """Where and how the bytes contradict the format."""


class _Parser:
    """Reads values one after another from position `at`."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.at = len(_MAGIC)
        self.items = 0  # of the arrays read so far

    def header(self) -> GgufHeader:
        version = self.scalar("I")
        if version in _BIG_ENDIAN_VERSIONS:
            raise UnsupportedModelError(
                "the GGUF file is big-endian. Turn it round with gguf-convert-endian (of the Python package gguf), or "
                "get the usual little-endian file."
            )
        if version == 1:
            raise UnsupportedModelError(
                "the GGUF file has format version 1, of August 2023. Get one that was converted later."
            )
        if version not in _VERSIONS:
            raise _BadHeaderError(f"its format version is {version}, and only versions 2 and 3 are known")
        tensor_count, field_count = self.scalar("Q"), self.scalar("Q")
        fields = self.fields(field_count)
        entries = [self.tensor_entry() for _ in range(self.count(tensor_count, "tensors"))]
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise _BadHeaderError(f"general.alignment is {alignment!r}")
        base = -(-self.at // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in entries:
            if name in tensors:
                raise _BadHeaderError(f"tensor {name} is listed twice")
            tensors[name] = self.located(name, shape, kind, base + offset)
        _require_apart(tensors)
        return GgufHeader(fields, tensors)

    def fields(self, count: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for _ in range(self.count(count, "metadata entries")):
            name = self.string()
            if name in fields:
                raise _BadHeaderError(f"metadata entry {name} is listed twice")
            fields[name] = self.value(self.value_type())
        return fields

    def value_type(self) -> GGUFValueType:
        number = self.scalar("I")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise _BadHeaderError(f"value type {number} at byte {self.at} is unknown") from None

    def value(self, kind: GGUFValueType) -> Any:
        if kind is GGUFValueType.STRING:
            return self.string()
        if kind is not GGUFValueType.ARRAY:
            return self.scalar(_SCALARS[kind])
        item = self.value_type()
        if item is GGUFValueType.ARRAY:
            raise _BadHeaderError(f"an array of arrays is announced at byte {self.at}, which no model has")
        count = self.count(self.scalar("Q"), "array items", _MAX_ITEMS - self.items)
        self.items += count
        if item in _SCALARS:
            code = _SCALARS[item]
            return list(struct.unpack(f"<{count}{code}", self.bytes(count * struct.calcsize(f"<{code}"))))
        return [self.value(item) for _ in range(count)]

    def tensor_entry(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self.string()
        dimensions = self.scalar("I")
        if dimensions > _MAX_DIMENSIONS:
            raise _BadHeaderError(f"tensor {name} has {dimensions} dimensions")
        shape = tuple(reversed([self.scalar("Q") for _ in range(dimensions)]))
        number = self.scalar("I")
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise _BadHeaderError(f"tensor {name} has the unknown type {number}") from None
        return name, shape, kind, self.scalar("Q")

    def located(self, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType, start: int) -> GgufTensor:
        block, block_bytes = GGML_QUANT_SIZES[kind]
        elements = 1
        for length in shape:
            elements *= length
        if not shape or elements == 0 or shape[-1] % block:
            raise _BadHeaderError(f"tensor {name} of type {kind.name} can't have the shape {list(shape)}")
        size = elements // block * block_bytes
        if start + size > len(self.data):
            raise _BadHeaderError(f"tensor {name} ends at byte {start + size}, the file at byte {len(self.data)}")
        return GgufTensor(name, self.path, shape, kind, start, size)

    def count(self, number: int, what: str, most: int = _MAX_ENTRIES) -> int:
        """A number of things still to come, each at least one byte long: more than the file's bytes is nonsense."""
        if number > len(self.data) - self.at:
            raise _BadHeaderError(f"{number} {what} are announced at byte {self.at}, more than the file can hold")
        if number > most:
            raise _BadHeaderError(f"{number} {what} are announced at byte {self.at}, more than any model has")
        return number

    def string(self) -> str:
        raw = self.bytes(self.count(self.scalar("Q"), "bytes of text", _MAX_STRING))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise _BadHeaderError(f"the text before byte {self.at} is not UTF-8") from None

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack(f"<{code}", self.bytes(struct.calcsize(f"<{code}")))
        return value

    def bytes(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise _BadHeaderError(f"it ends at byte {len(self.data)}, in the middle of its header")
        raw = self.data[self.at : end]
        self.at = end
        return raw


def _require_apart(tensors: Mapping[str, GgufTensor]) -> None:
    """Raise if two tensors share bytes: a file that lies about its size."""
    in_order = sorted(tensors.values(), key=lambda tensor: tensor.start)
    for one, other in pairwise(in_order):
        if one.start + one.size > other.start:
            raise _BadHeaderError(f"tensors {one.name} and {other.name} lie on top of each other")
