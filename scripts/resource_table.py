"""Android's own resource table in the form that older tools read.

Since Android 14 the platform's resources.arsc packs its type chunks with 16-bit offsets and compact entries (AOSP,
ResourceTypes.h: ResTable_type::FLAG_OFFSET16, ResTable_entry::FLAG_COMPACT). Debian's aapt2 knows neither, so every
type chunk is written again with 32-bit offsets and full entries. Nothing else changes; integers are little endian.
"""

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PACKAGE, _TYPE = 0x0200, 0x0201  # kinds of chunks
_SPARSE, _OFFSET16 = 1, 2  # flags of a type chunk
_COMPLEX, _COMPACT = 1, 8  # flags of an entry
_NO_ENTRY16, _NO_ENTRY = 0xFFFF, 0xFFFFFFFF
_FULL_ENTRY, _VALUE, _MAP = 8, 8, 12  # sizes in bytes

_FLAGS_AT, _COUNTS_AT = 9, 12  # in the header of a type chunk: its flags; then entry count and where entries start


class _Chunk(NamedTuple):
    kind: int
    header: int  # size of its header in bytes
    data: bytes  # header included


def write_framework(android: Path, target: Path) -> None:
    """Write to `target` what aapt2 links against: manifest and rewritten resource table of the jar `android`."""
    with zipfile.ZipFile(android) as source, zipfile.ZipFile(target, "w") as out:
        out.writestr("AndroidManifest.xml", source.read("AndroidManifest.xml"))
        out.writestr("resources.arsc", rewritten(source.read("resources.arsc")))


def rewritten(table: bytes) -> bytes:
    """The resource table `table` without 16-bit offsets, sparse types and compact entries."""
    (whole,) = _chunks(table, 0)
    return _resized(whole, [_package(part) if part.kind == _PACKAGE else part.data for part in _parts(whole)])


def _package(chunk: _Chunk) -> bytes:
    return _resized(chunk, [_type(part) if part.kind == _TYPE else part.data for part in _parts(chunk)])


def _parts(chunk: _Chunk) -> Iterator[_Chunk]:
    """The chunks inside a chunk."""
    return _chunks(chunk.data, chunk.header)


def _chunks(data: bytes, start: int) -> Iterator[_Chunk]:
    while start < len(data):
        kind, header, size = struct.unpack_from("<HHI", data, start)
        yield _Chunk(kind, header, data[start : start + size])
        start += size


def _resized(chunk: _Chunk, parts: list[bytes]) -> bytes:
    """The chunk's header with `parts` behind it."""
    body = b"".join(parts)
    header = bytearray(chunk.data[: chunk.header])
    struct.pack_into("<I", header, 4, len(header) + len(body))
    return bytes(header) + body


def _type(chunk: _Chunk) -> bytes:
    """A type chunk with one 32-bit offset per resource and full entries."""
    entries = {index: _entry(chunk.data, at) for index, at in _entries(chunk)}
    count, _ = struct.unpack_from("<II", chunk.data, _COUNTS_AT)
    if chunk.data[_FLAGS_AT] & _SPARSE:
        count = max(entries, default=-1) + 1
    offsets, start = [_NO_ENTRY] * count, 0
    for index, entry in entries.items():
        offsets[index] = start
        start += len(entry)
    header = bytearray(chunk.data[: chunk.header])
    header[_FLAGS_AT] = 0
    struct.pack_into("<II", header, _COUNTS_AT, count, chunk.header + 4 * count)
    return _resized(chunk._replace(data=bytes(header)), [struct.pack(f"<{count}I", *offsets), *entries.values()])


def _entries(chunk: _Chunk) -> Iterator[tuple[int, int]]:
    """(index, position in the chunk) of every entry that is there, whichever way the chunk lists them."""
    flags = chunk.data[_FLAGS_AT]
    count, start = struct.unpack_from("<II", chunk.data, _COUNTS_AT)
    listed = chunk.data[chunk.header :]
    if flags & _SPARSE:
        for index, quarter in struct.iter_unpack("<HH", listed[: 4 * count]):
            yield index, start + 4 * quarter
    elif flags & _OFFSET16:
        for index, (quarter,) in enumerate(struct.iter_unpack("<H", listed[: 2 * count])):
            if quarter != _NO_ENTRY16:
                yield index, start + 4 * quarter
    else:
        for index, (offset,) in enumerate(struct.iter_unpack("<I", listed[: 4 * count])):
            if offset != _NO_ENTRY:
                yield index, start + offset


def _entry(data: bytes, at: int) -> bytes:
    """The entry at `at` in its full form."""
    first, flags, second = struct.unpack_from("<HHI", data, at)
    if flags & _COMPACT:  # key (16 bits), flags with the value's type in the high byte, the value
        full = struct.pack("<HHI", _FULL_ENTRY, flags & 0xFF & ~_COMPACT, first)
        return full + struct.pack("<HBBI", _VALUE, 0, flags >> 8, second)
    if flags & _COMPLEX:  # `first` is the entry's size; a count, and that many maps, follow
        (maps,) = struct.unpack_from("<I", data, at + 12)
        return data[at : at + first + _MAP * maps]
    return data[at : at + first + _VALUE]
