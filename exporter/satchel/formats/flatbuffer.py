"""Reading flatbuffers by field number, for the few tables of a file that Satchel needs.

Field numbers are the order of declaration in the schema (a union takes two: its type, then its value).
"""

import mmap
from collections.abc import Iterator

from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table as RawTable

Buffer = bytes | bytearray | memoryview | mmap.mmap
UINT64 = number_types.Uint64Flags


class Table:
    """One table in a buffer."""

    def __init__(self, buffer: Buffer, position: int) -> None:
        self._table = RawTable(buffer, position)

    @classmethod
    def root(cls, buffer: Buffer, start: int = 0) -> "Table":
        """The root table of the flatbuffer that begins at `start`."""
        return cls(buffer, start + encode.Get(packer.uoffset, buffer, start))

    def _offset(self, field: int) -> int:
        return int(self._table.Offset(4 + 2 * field))

    def integer(self, field: int, flags: type = number_types.Uint32Flags, default: int = 0) -> int:
        """A scalar field; `flags` gives its width (flatbuffers.number_types)."""
        offset = self._offset(field)
        return int(self._table.Get(flags, offset + self._table.Pos)) if offset else default

    def uint64(self, field: int) -> int:
        return self.integer(field, UINT64)

    def string(self, field: int) -> str:
        offset = self._offset(field)
        return bytes(self._table.String(offset + self._table.Pos)).decode() if offset else ""

    def table(self, field: int) -> "Table | None":
        offset = self._offset(field)
        return Table(self._table.Bytes, self._table.Indirect(offset + self._table.Pos)) if offset else None

    def union(self, field: int) -> "Table | None":
        """The value of a union whose type is field - 1."""
        offset = self._offset(field)
        if not offset:
            return None
        position = self._table.Pos + offset
        return Table(self._table.Bytes, position + encode.Get(packer.uoffset, self._table.Bytes, position))

    def tables(self, field: int) -> "Iterator[Table]":
        """The tables of a vector field."""
        offset = self._offset(field)
        if offset:
            start = self._table.Vector(offset)
            for index in range(self._table.VectorLen(offset)):
                yield Table(self._table.Bytes, self._table.Indirect(start + 4 * index))

    def vector(self, field: int) -> tuple[int, int]:
        """(position in the buffer, number of elements) of a vector field; (0, 0) if there is none."""
        offset = self._offset(field)
        return (int(self._table.Vector(offset)), int(self._table.VectorLen(offset))) if offset else (0, 0)

    def integers(self, field: int, flags: type = number_types.Uint32Flags) -> list[int]:
        """A vector of scalars."""
        offset = self._offset(field)
        if not offset:
            return []
        start, width = self._table.Vector(offset), flags.bytewidth  # type: ignore[attr-defined]
        return [int(self._table.Get(flags, start + width * i)) for i in range(self._table.VectorLen(offset))]
