"""Reading and writing .safetensors files one array at a time, with memory bounded by one array.

The format (Hugging Face safetensors, format description in its README): 8 bytes little-endian header length, that many
bytes of JSON {name: {dtype, shape, data_offsets}}, then the arrays' bytes. The safetensors library reads lazily, but
its numpy side knows no bfloat16 and `save_file` wants every array in memory at once; hence this small module.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BadWeightsError, CorruptModelError, InternalError
from satchel.source.json_files import parse_json, refuse_pointer

# safetensors' name -> numpy's. bfloat16 is handed out as its bit pattern.
NUMPY_TYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_OTHER_BITS = {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "U32": 32, "U64": 64, "C64": 64, "F4": 4}
_MAX_HEADER = 100_000_000  # bytes; the library's own limit
_PIECE = 1 << 20  # values converted at a time


@dataclass(frozen=True)
class StoredArray:
    """One array of a file: `dtype` as safetensors names it, `start` the byte position in the file, `size` in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class SafetensorsFile:
    """A .safetensors file whose header has been checked against the file's length.

    Arrays are read from their position when they are asked for. (Not mapped: every page of a mapped file that was
    touched counts as this process' memory, so a large file would look like a large process.)
    Raises CorruptModelError if the file is truncated or its header makes no sense.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays = _read_header(path)

    def read(self, name: str) -> NDArray[Any]:
        """The array in its own type, fresh; bfloat16 as uint16. Any shape."""
        stored = self._stored(name)
        return self._values(stored, 0, math.prod(stored.shape)).reshape(stored.shape)

    def float32(self, name: str) -> NDArray[np.float32]:
        """A floating point array as float32, fresh: converted piece by piece, so that it is in memory only once."""
        stored = self._stored(name)
        out = np.empty(math.prod(stored.shape), dtype=np.float32)
        for first in range(0, out.size, _PIECE):
            out[first : first + _PIECE] = self._floats(stored, first, min(_PIECE, out.size - first))
        return out.reshape(stored.shape)

    def same_values(self, name: str, other: "SafetensorsFile", of_other: str) -> bool:
        """Whether two arrays have the same shape and values, whatever types they are stored in. A piece at a time."""
        one, two = self._stored(name), other._stored(of_other)
        if one.shape != two.shape:
            return False
        for first in range(0, math.prod(one.shape), _PIECE):
            count = min(_PIECE, math.prod(one.shape) - first)
            if not np.array_equal(self._floats(one, first, count), other._floats(two, first, count)):
                return False
        return True

    def _floats(self, stored: StoredArray, first: int, count: int) -> NDArray[Any]:
        values = self._values(stored, first, count)
        return bfloat16_to_float32(values) if stored.dtype == "BF16" else values

    def _stored(self, name: str) -> StoredArray:
        try:
            return self.arrays[name]
        except KeyError:
            raise BadWeightsError(f"{self.path.name} has no tensor {name}.") from None

    def _values(self, stored: StoredArray, first: int, count: int) -> NDArray[Any]:
        dtype = np.dtype(NUMPY_TYPES[stored.dtype])
        return np.fromfile(self.path, dtype, count, offset=stored.start + first * dtype.itemsize)


class SafetensorsWriter(AbstractContextManager["SafetensorsWriter"]):
    """Writes a file whose layout is known beforehand; the arrays follow in exactly that order.

    layout: name -> (dtype as safetensors names it, shape). `sha256` is the hash of everything written so far.
    """

    def __init__(self, path: Path, layout: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self._layout = layout
        self._pending = iter(layout)
        self._hash = hashlib.sha256()
        self._file = path.open("wb")
        header, position = {}, 0
        for name, (dtype, shape) in layout.items():
            end = position + math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
            position = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # the arrays start at a multiple of 8
        self._write(struct.pack("<Q", len(text)) + text)

    def write(self, name: str, array: NDArray[Any]) -> None:
        """The next array of the layout, in its type and shape."""
        if next(self._pending, None) != name:
            raise InternalError(f"{name} was written out of order")
        dtype, shape = self._layout[name]
        if array.shape != shape or array.dtype != np.dtype(NUMPY_TYPES[dtype]):
            raise InternalError(f"{name} is {array.dtype}{array.shape}, but {dtype}{shape} was laid out")
        self._write(np.ascontiguousarray(array).data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def _write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is None and (missing := next(self._pending, None)) is not None:
            raise InternalError(f"{missing} was never written")


def bfloat16_to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 bit patterns as the float32 values that they are (exact)."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _read_header(path: Path) -> dict[str, StoredArray]:
    refuse_pointer(path)
    file_size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _MAX_HEADER + 1
        if length > min(_MAX_HEADER, file_size - 8):
            raise _damaged(path, f"its header should have {length} bytes, the file has {file_size}")
        try:
            header = parse_json(file.read(length))
            arrays = {name: _entry(entry, 8 + length) for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
            raise _damaged(path, f"its header can't be read ({problem})") from problem
    end = 8 + length
    for name, stored in sorted(arrays.items(), key=lambda item: item[1].start):
        if stored.start != end:
            raise _damaged(path, f"{name} starts at byte {stored.start} where byte {end} was expected")
        end = stored.start + stored.size
    if end != file_size:
        raise _damaged(path, f"its tensors end at byte {end}, the file at byte {file_size}")
    return arrays


def _entry(entry: Mapping[str, Any], base: int) -> StoredArray:
    dtype, shape = entry["dtype"], tuple(int(length) for length in entry["shape"])
    start, end = (int(position) for position in entry["data_offsets"])
    bits = _OTHER_BITS[dtype] if dtype in _OTHER_BITS else np.dtype(NUMPY_TYPES[dtype]).itemsize * 8
    if start < 0 or any(length < 0 for length in shape) or (end - start) * 8 != math.prod(shape) * bits:
        raise ValueError(f"shape {list(shape)} of {dtype} does not fill bytes {start} to {end}")
    return StoredArray(dtype, shape, base + start, end - start)


def _damaged(path: Path, how: str) -> CorruptModelError:
    return CorruptModelError(f"{path.name} is truncated or damaged: {how}. Get the file again.")
