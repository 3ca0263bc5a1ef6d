"""Reading protocol buffers by field number, for the few messages of a file that Satchel needs.

Format: https://protobuf.dev/programming-guides/encoding. Unknown fields are skipped, as the format asks for. Reading a
damaged message raises ValueError.
"""

import struct
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class Message:
    """One message. Scalars that are absent are zero or empty, as in proto3."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._fields: dict[int, list[int | memoryview]] = {}
        for field, content in _fields(memoryview(data)):
            self._fields.setdefault(field, []).append(content)

    def has(self, field: int) -> bool:
        return field in self._fields

    def integer(self, field: int) -> int:
        """An int32, int64, uint64, bool or enum. The last one counts, as everywhere in this format."""
        content = self._fields.get(field, [0])[-1]
        if not isinstance(content, int):
            raise _wrong_type(field)
        return _signed(content)

    def integers(self, field: int) -> list[int]:
        """A repeated integer, packed or not."""
        found: list[int] = []
        for content in self._fields.get(field, []):
            found += [_signed(content)] if isinstance(content, int) else map(_signed, _varints(content))
        return found

    def bytes(self, field: int) -> bytes:
        return bytes(self._raw(field))

    def floats(self, field: int, dtype: type[np.floating]) -> NDArray[np.floating]:
        """A repeated float or double (dtype float32, float64), packed or not."""
        chunks = self._fields.get(field, [])
        return np.frombuffer(b"".join(chunk for chunk in chunks if not isinstance(chunk, int)), dtype)

    def string(self, field: int) -> str:
        return str(self._raw(field), "utf-8")

    def strings(self, field: int) -> list[str]:
        return [str(content, "utf-8") for content in self._blobs(field)]

    def message(self, field: int) -> "Message":
        return Message(self._raw(field))

    def messages(self, field: int) -> "Iterator[Message]":
        return (Message(content) for content in self._blobs(field))

    def mapping(self, field: int) -> "Mapping[str, Message]":
        """A map<string, message>: on the wire, messages with key 1 and value 2."""
        return {entry.string(1): entry.message(2) for entry in self.messages(field)}

    def _raw(self, field: int) -> memoryview:
        content = self._fields.get(field, [memoryview(b"")])[-1]
        if isinstance(content, int):
            raise _wrong_type(field)
        return content

    def _blobs(self, field: int) -> Iterator[memoryview]:
        for content in self._fields.get(field, []):
            if isinstance(content, int):
                raise _wrong_type(field)
            yield content


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, integer or bytes) in order; fixed-width numbers as their bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"wire type {kind}")
        if position + size > len(data):
            raise ValueError("a field reaches past the end")
        yield tag >> 3, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """(value, position after it) of the variable-length integer at `position`."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("a number does not end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varints(data: memoryview) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _signed(value: int) -> int:
    """Negative numbers are written as 64-bit two's complement."""
    (signed,) = struct.unpack("<q", struct.pack("<Q", value & 0xFFFF_FFFF_FFFF_FFFF))
    return int(signed)


def _wrong_type(field: int) -> ValueError:
    return ValueError(f"field {field} has another type")
