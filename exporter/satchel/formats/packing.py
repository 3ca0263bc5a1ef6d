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
from satchel.skeleton.table import Slot

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
    """Scales. Most bfloat16 are a float16 too; below 2^-17 some are rounded, but none to zero, which runtimes
    refuse."""
    largest = values.max(initial=0)
    if largest > np.finfo(np.float16).max:
        raise BadWeightsError(f"A scale of {largest:.3g} is too large for this program's float16. Use --recipe int8.")
    return np.maximum(values.astype(np.float16), np.finfo(np.float16).smallest_subnormal).tobytes()


def _unpack_float16(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(data, np.float16).astype(np.float32).reshape(shape)


def _pack_bfloat16(values: NDArray[Any]) -> bytes:
    return values.astype(ml_dtypes.bfloat16).tobytes()


def _unpack_bfloat16(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(data, ml_dtypes.bfloat16).astype(np.float32).reshape(shape)


def _unpack_float32(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(data, np.float32).reshape(shape)


def _pack_float16_times_32(values: NDArray[Any]) -> bytes:
    return _pack_float16(values * np.float32(32))


def _unpack_float16_times_32(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    return _unpack_float16(data, shape) / np.float32(32)


def _pack_float16_values(values: NDArray[Any]) -> bytes:
    """Weights of a program that computes in float16."""
    largest = np.abs(values).max(initial=0)
    if largest > np.finfo(np.float16).max:
        raise BadWeightsError(
            f"A weight of {largest:.3g} is too large for float16, which this program computes in. Another backend can "
            "hold it: --backend executorch."
        )
    return values.astype(np.float16).tobytes()


def _plus_one(values: NDArray[Any]) -> NDArray[Any]:
    """Gemma's norms multiply by 1 + weight: the lowering folds the sum, so the file holds it."""
    return (np.float32(1.0) + values).astype(np.float32)


@dataclass(frozen=True)
class Packing:
    """store: array -> bytes. load: bytes, shape -> what `store` was given. rounds: whether `store` may round.

    derive: what the file holds instead of the array itself, so that the array can't be had again; None if it can.
    """

    store: Callable[[NDArray[Any]], bytes]
    load: Callable[[bytes, tuple[int, ...]], NDArray[Any]]
    dtype: str
    rounds: bool = False
    derive: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    def pack(self, array: NDArray[Any]) -> bytes:
        return self.store(array if self.derive is None else self.derive(array))


def _pack_float32(values: NDArray[Any]) -> bytes:
    return values.astype(np.float32).tobytes()


PACKINGS: Mapping[str, Packing] = {
    "int4": Packing(_pack_excess_8, _unpack_excess_8, "int4"),  # XNNPACK's serialized form: code + 8
    "int4_signed": Packing(_pack_signed, _unpack_signed, "int4"),  # TFLite's and Core ML's: two's complement
    "uint4": Packing(_pack_excess_8, _unpack_excess_8, "uint4"),
    "int8": Packing(lambda codes: codes.tobytes(), lambda b, shape: np.frombuffer(b, np.int8).reshape(shape), "int8"),
    "float16": Packing(_pack_float16, _unpack_float16, "float16", rounds=True),
    "float16_times_32": Packing(_pack_float16_times_32, _unpack_float16_times_32, "float16", rounds=True),
    "float16_values": Packing(_pack_float16_values, _unpack_float16, "float16", rounds=True),
    "float16_plus_one": Packing(_pack_float16_values, _unpack_float16, "float16", rounds=True, derive=_plus_one),
    "bfloat16": Packing(_pack_bfloat16, _unpack_bfloat16, "bfloat16"),
    "float32": Packing(_pack_float32, _unpack_float32, "float32"),
    "float32_plus_one": Packing(_pack_float32, _unpack_float32, "float32", derive=_plus_one),
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


def same_part(first: BinaryIO, one: Slot, second: BinaryIO, other: Slot) -> bool:
    """True if two files hold the same numbers in these slots, or one holds what its packing makes of the other's."""
    here, there = _read(first, one), _read(second, other)
    packing, other_packing = PACKINGS[one.packing], PACKINGS[other.packing]
    array, other_array = packing.load(here, one.shape), other_packing.load(there, other.shape)
    if packing.derive is not other_packing.derive:
        array = array if other_packing.derive is None else other_packing.derive(array)
        other_array = other_array if packing.derive is None else packing.derive(other_array)
    return (
        array.tobytes() == other_array.tobytes()
        or (other_packing.rounds and other_packing.store(array) == there)
        or (packing.rounds and packing.store(other_array) == here)
    )


def _read(file: BinaryIO, slot: Slot) -> bytes:
    file.seek(slot.offset)
    return file.read(slot.bytes)


def _holds(file: BinaryIO, slot: Slot, array: NDArray[Any]) -> bool:
    data, packing = _read(file, slot), PACKINGS[slot.packing]
    if packing.derive is not None or packing.rounds:
        return data == packing.pack(array)
    found = packing.load(data, slot.shape)
    # Compared as bytes: equality of floats would call -0 and 0 equal and NaN different from itself.
    return found.dtype == array.dtype and found.tobytes() == array.tobytes()


def _by_tensor(slots: Iterable[Slot]) -> Iterator[tuple[str, list[Slot]]]:
    """Tensors with their slots, so that each tensor is read once."""
    groups: dict[str, list[Slot]] = {}
    for slot in slots:
        groups.setdefault(slot.tensor, []).append(slot)
    yield from groups.items()
