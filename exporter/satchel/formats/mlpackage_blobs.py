"""The blob file of an .mlpackage (weights/weight.bin): headers, data types, and views of the numbers in it.

Layout (coremltools, mlmodel/src/MILBlob/Blob/StorageFormat.hpp, version 2): a header of 64 bytes with the number of
blobs, then for each blob 64 bytes of metadata and its data, both aligned to 64 bytes. A program names a blob by the
position of its metadata. Numbers are little-endian; those narrower than a byte are packed from the lowest bit on.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from satchel.errors import CorruptModelError

ALIGNMENT = 64
_VERSION = 2
_SENTINEL = 0xDEADBEEF
_HEADER = struct.Struct("<II56x")  # number of blobs, version
_METADATA = struct.Struct("<IIQQQ32x")  # sentinel, data type, bytes, position of the data, unused bits at its end

# enum BlobDataType
_BLOB_TYPES = {
    1: "float16", 2: "float32", 3: "uint8", 4: "int8", 5: "bfloat16", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1",
    10: "uint2", 11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32", 16: "float8_e4m3fn",
    17: "float8_e5m2",
}  # fmt: skip

# Types that numpy has, or ml_dtypes adds; narrower ones are unpacked to int8 or uint8.
WHOLE_TYPES: dict[str, Any] = {
    "bool": np.bool_, "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64, "uint8": np.uint8,
    "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64, "float16": np.float16, "float32": np.float32,
    "float64": np.float64, "bfloat16": ml_dtypes.bfloat16, "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
NARROW_BITS = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}


def bits_of(dtype: str) -> int:
    """Bits of one number of this type in the file."""
    return NARROW_BITS.get(dtype) or 8 * int(np.dtype(WHOLE_TYPES[dtype]).itemsize)


def unpack(data: bytes | memoryview | NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The numbers in `data` with this shape; a view for types of whole bytes, int8 or uint8 for narrower ones.

    Raises ValueError if the data is too short or too long.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if dtype in WHOLE_TYPES:
        return np.frombuffer(data, WHOLE_TYPES[dtype]).reshape(shape)
    bits = NARROW_BITS[dtype]
    packed = np.frombuffer(data, np.uint8)
    if len(packed) != -(-count * bits // 8):
        raise ValueError(f"{len(packed)} bytes for {count} numbers of {bits} bits")
    if bits == 4:
        values = np.empty((len(packed), 2), np.uint8)
        np.bitwise_and(packed, 15, out=values[:, 0])
        np.right_shift(packed, 4, out=values[:, 1])
    else:
        single = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
        values = single @ (1 << np.arange(bits, dtype=np.uint8))
    values = values.reshape(-1)[:count].reshape(shape)
    if dtype == "int4":
        return ((values ^ 8) - np.uint8(8)).view(np.int8)
    return values


@dataclass(frozen=True)
class BlobRegion:
    """Where one blob's data lies: its type, the position of its first byte in the file, and its bytes."""

    dtype: str
    start: int
    bytes: int


class BlobFile:
    """A blob file, mapped. Raises CorruptModelError if it is none, or if a blob is not where it is said to be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._data: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
            self.count, version = _HEADER.unpack_from(self._data.data)
        except (OSError, ValueError, struct.error) as error:
            raise CorruptModelError(f"{path} is missing or truncated ({error}): build or fetch it again") from error
        if version != _VERSION:
            raise CorruptModelError(f"{path} is no blob file of version {_VERSION}, but of {version}")

    def region(self, offset: int) -> BlobRegion:
        """The blob whose metadata stands at `offset`."""
        try:
            sentinel, kind, size, start, _ = _METADATA.unpack_from(self._data.data, offset)
        except struct.error as error:
            raise CorruptModelError(f"{self.path} has no blob at {offset}: {error}") from error
        if sentinel != _SENTINEL or kind not in _BLOB_TYPES or start + size > len(self._data):
            raise CorruptModelError(f"{self.path} is damaged: no whole blob at {offset}")
        return BlobRegion(_BLOB_TYPES[kind], start, size)

    def regions(self) -> Iterator[tuple[int, BlobRegion]]:
        """(offset of its metadata, blob) of all blobs in order."""
        offset = _HEADER.size
        for _ in range(self.count):
            region = self.region(offset)
            yield offset, region
            offset = -(-(region.start + region.bytes) // ALIGNMENT) * ALIGNMENT

    def array(self, offset: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """The numbers of the blob at `offset`; read from the file when they are used, where the type allows it."""
        region = self.region(offset)
        try:
            return unpack(self._data[region.start : region.start + region.bytes], region.dtype, shape)
        except ValueError as error:
            raise CorruptModelError(f"{self.path}: the blob at {offset} does not hold {shape}: {error}") from error
