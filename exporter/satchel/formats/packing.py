"""How parts of a tensor become the bytes of a slot, for every format; writing slots and reading them back."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from satchel.errors import BadWeightsError, InternalError
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.skeleton import Slot

# What a format holds of a tensor: (part, possible packings, array) each.
Parts = Callable[[QuantizedTensor], Iterator[tuple[str, tuple[str, ...], NDArray[Any]]]]


def _nibbles(unsigned: NDArray[Any]) -> bytes:
    """Two 4-bit values per byte, the first in the low nibble."""
    packed: NDArray[np.uint8] = unsigned[0::2] | (unsigned[1::2] << 4)
    return packed.tobytes()


def _split(data: bytes) -> NDArray[np.int8]:
    pairs = np.frombuffer(data, np.uint8)
    values = np.empty(2 * len(pairs), np.int8)
    values[0::2] = pairs & 15
    values[1::2] = pairs >> 4
    return values


def _pack_excess_8(codes: NDArray[Any]) -> bytes:
    return _nibbles((codes.reshape(-1) + np.int8(8)).view(np.uint8))


def _unpack_excess_8(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    return (_split(data) - np.int8(8)).reshape(shape)


def _pack_signed(codes: NDArray[Any]) -> bytes:
    return _nibbles(codes.reshape(-1).view(np.uint8) & 15)


def _unpack_signed(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    values = _split(data)
    return np.where(values > 7, values - 16, values).astype(np.int8).reshape(shape)


def _pack_float16(values: NDArray[Any]) -> bytes:
    packed = values.astype(np.float16)
    if not np.array_equal(packed.astype(np.float32), values):
        raise BadWeightsError(
            f"Scales from {values.min():.3g} to {values.max():.3g} can't all be float16, as a .tflite holds them. "
            "Use --recipe int8."
        )
    return packed.tobytes()


def _unpack_float16(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(data, np.float16).astype(np.float32).reshape(shape)


def _pack_bfloat16(values: NDArray[Any]) -> bytes:
    return values.astype(ml_dtypes.bfloat16).tobytes()


def _unpack_bfloat16(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(data, ml_dtypes.bfloat16).astype(np.float32).reshape(shape)


def _unpack_float32(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(data, np.float32).reshape(shape)


def _pack_plus_one(values: NDArray[Any]) -> bytes:
    """Gemma's norms multiply by 1 + weight: the lowering folds the sum, so the file holds it."""
    return (np.float32(1.0) + values).astype(np.float32).tobytes()


@dataclass(frozen=True)
class Packing:
    """pack: array -> bytes. unpack: bytes, shape -> what `pack` was given; None if the form is derived (then reading
    back compares bytes)."""

    pack: Callable[[NDArray[Any]], bytes]
    unpack: Callable[[bytes, tuple[int, ...]], NDArray[Any]] | None
    dtype: str


PACKINGS: Mapping[str, Packing] = {
    "int4": Packing(_pack_excess_8, _unpack_excess_8, "int4"),  # XNNPACK's serialized form: code + 8
    "int4_signed": Packing(_pack_signed, _unpack_signed, "int4"),  # TFLite's: two's complement
    "int8": Packing(lambda codes: codes.tobytes(), lambda b, shape: np.frombuffer(b, np.int8).reshape(shape), "int8"),
    "float16": Packing(_pack_float16, _unpack_float16, "float16"),
    "bfloat16": Packing(_pack_bfloat16, _unpack_bfloat16, "bfloat16"),
    "float32": Packing(lambda values: values.astype(np.float32).tobytes(), _unpack_float32, "float32"),
    "float32_plus_one": Packing(_pack_plus_one, None, "float32"),
}


def write_slots(
    file: BinaryIO, slots: Sequence[Slot], weights: QuantizedCheckpoint, parts: Parts
) -> Iterator[tuple[Slot, bytes]]:
    """Writes every slot of an open file, one tensor in memory at a time; yields each slot with its bytes."""
    for name, group in _by_tensor(slots):
        arrays = {part: array for part, _, array in parts(weights.read(name))}
        for slot in group:
            packed = PACKINGS[slot.packing].pack(arrays[slot.part])
            if len(packed) != slot.bytes:
                raise InternalError(f"{slot.tensor} {slot.part}: {len(packed)} bytes for a slot of {slot.bytes}")
            file.seek(slot.offset)
            file.write(packed)
            yield slot, packed


def read_back(
    path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint, parts: Parts, names: Iterable[str]
) -> dict[str, bool]:
    """tensor -> True if every part of it in the file equals the checkpoint's, bit for bit.

    Codes, scales and values are unpacked and compared as arrays; derived forms are compared as bytes. Every one of
    `names` is answered for: one without a slot for each of its parts was not seen, and is not equal. A part may lie in
    several places, but no place counts twice.
    """
    equal = dict.fromkeys(names, False)
    with path.open("rb") as file:
        for name, group in _by_tensor(slots):
            arrays = {part: array for part, _, array in parts(weights.read(name))}
            once = len({slot.offset for slot in group}) == len(group)
            complete = once and {slot.part for slot in group} == arrays.keys()
            equal[name] = complete and all(_holds(file, slot, arrays[slot.part]) for slot in group)
    return equal


def read_part(file: BinaryIO, slot: Slot) -> bytes:
    """What a slot holds, as the bytes of its unpacked array: the same in every format. A derived form stays packed."""
    file.seek(slot.offset)
    data, packing = file.read(slot.bytes), PACKINGS[slot.packing]
    return data if packing.unpack is None else packing.unpack(data, slot.shape).tobytes()


def _holds(file: BinaryIO, slot: Slot, array: NDArray[Any]) -> bool:
    """Compared as bytes: equality of floats would call -0 and 0 equal and NaN different from itself."""
    packing = PACKINGS[slot.packing]
    return read_part(file, slot) == (packing.pack(array) if packing.unpack is None else array.tobytes())


def _by_tensor(slots: Iterable[Slot]) -> Iterator[tuple[str, list[Slot]]]:
    """Tensors with their slots, so that each tensor is read once."""
    groups: dict[str, list[Slot]] = {}
    for slot in slots:
        groups.setdefault(slot.tensor, []).append(slot)
    yield from groups.items()
