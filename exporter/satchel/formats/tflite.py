"""The LiteRT program file (.tflite): where its weights lie, how they are packed, filled in and predicted.

Layout (`schema.fbs`, version 3): one flatbuffer. Each signature is a subgraph with tensors of its own; the tensors of
one weight point to the same buffer. Scales of int4 groups are a buffer too; scales of int8 rows stand in the tensor's
quantization parameters, which our lowering lets the signatures share.
"""

import hashlib
import mmap
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flatbuffers import number_types
from numpy.typing import NDArray

from satchel.errors import CorruptModelError, InternalError
from satchel.formats import carried, packing
from satchel.formats.carried import part_bytes
from satchel.formats.differences import described, different_constants, first_different_byte
from satchel.formats.flatbuffer import UINT64, Table
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.quantize.plan import QuantPlan
from satchel.skeleton.table import Skeleton, Slot

PROGRAM_FILE = "model.tflite"


def parts(tensor: QuantizedTensor) -> Iterator[tuple[str, tuple[str, ...], NDArray[Any]]]:
    """(part, possible packings, array) of everything the file holds of this tensor."""
    return carried.parts(tensor, int4="int4_signed", group_scale="float16")


def predict_bytes(
    plan: QuantPlan, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], context_length: int
) -> int:
    """Size of the .tflite before anything is built, from the plan alone.

    shapes: of every tensor of the plan. A tied table is stored once. Rows with scales need zero points, which tables
    of equally many rows share. What surrounds the weights was measured on 2 and 30 layers: about 23 KB per layer and
    20 KB.
    """
    weights = sum(part_bytes(plan[name], shape) for name, shape in shapes.items())
    rows = {shapes[name][0] for name, entry in plan.tensors.items() if entry.scheme == "int8" or entry.offset}
    return weights + 8 * sum(rows) + 23_000 * int(config["num_hidden_layers"]) + 20_000


def weights_file(program: Path) -> Path:
    """The file that slots lie in: the program itself."""
    return program


# --- the file -----------------------------------------------------------------------------------------------------

Region = tuple[int, int]  # offset and bytes in the file

TENSOR_TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 17: "int4",
}  # fmt: skip
_BLOCKWISE = 2  # position in union QuantizationDetails


@dataclass(frozen=True)
class ProgramTensor:
    """A tensor of one subgraph. buffer: its number; 0 means that the tensor is computed.

    scale: region of the per-row scales in the quantization parameters, or None. group_scale: number of the buffer with
    the scales of its groups, or None. group: their length.
    """

    subgraph: int
    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    buffer: int
    scale: Region | None
    group_scale: int | None
    group: int


@dataclass(frozen=True)
class Layout:
    """buffers: region of each, or None where it holds nothing. tensors: of all subgraphs."""

    buffers: tuple[Region | None, ...]
    tensors: tuple[ProgramTensor, ...]

    def constants(self) -> Iterator[ProgramTensor]:
        """The tensors whose values stand in the file."""
        return (tensor for tensor in self.tensors if self.buffers[tensor.buffer] is not None)


def read_layout(data: bytes | bytearray | memoryview | mmap.mmap, name: str = PROGRAM_FILE) -> Layout:
    """Reads the program's tables. Raises CorruptModelError if this is no .tflite or is truncated."""
    if len(data) < 64 or bytes(data[4:8]) != b"TFL3":
        raise CorruptModelError(f"{name} is not a LiteRT program: build it again")
    try:
        model = Table.root(data)
        buffers = tuple(_buffer(table) for table in model.tables(4))
        tensors = tuple(
            tensor for number, subgraph in enumerate(model.tables(2)) for tensor in _tensors(subgraph, number)
        )
        ends = [offset + size for offset, size in filter(None, (*buffers, *(tensor.scale for tensor in tensors)))]
    except (IndexError, ValueError, TypeError, struct.error) as error:  # what reading past the end or nonsense gives
        raise CorruptModelError(f"{name} is damaged or truncated: build it again") from error
    if not tensors or max(ends, default=0) > len(data) or any(tensor.buffer >= len(buffers) for tensor in tensors):
        raise CorruptModelError(f"{name} is damaged or truncated: build it again")
    return Layout(buffers, tensors)


def _buffer(table: Table) -> Region | None:
    offset, size = table.vector(0)
    if not size:  # data too large for a flatbuffer lies behind it
        offset, size = table.integer(1, UINT64), table.integer(2, UINT64)
    return (offset, size) if size else None


def _tensors(subgraph: Table, number: int) -> Iterator[ProgramTensor]:
    tables = list(subgraph.tables(0))
    buffers = [table.integer(2) for table in tables]
    for index, table in enumerate(tables):
        scale, group_scale, group = None, None, 0
        quantization = table.table(4)
        if quantization is not None:
            start, count = quantization.vector(2)
            scale = (start, 4 * count) if count else None
            details = quantization.union(5)
            if details is not None and quantization.integer(4, number_types.Uint8Flags) == _BLOCKWISE:
                group_scale, group = buffers[details.integer(0)], details.integer(2)
        dtype = TENSOR_TYPES.get(table.integer(1, number_types.Int8Flags), "unknown")
        shape = tuple(table.integers(0))
        yield ProgramTensor(number, index, table.string(3), dtype, shape, buffers[index], scale, group_scale, group)


# --- slots --------------------------------------------------------------------------------------------------------


def find_slots(data: bytes | bytearray, weights: QuantizedCheckpoint, parameters: Iterable[str]) -> list[Slot]:
    """The table of slots of a program lowered from `weights`, found by content: every part must occur exactly once.

    Raises InternalError if a part is missing, is stored more than once (the signatures don't share it), shares its
    bytes with another part, is declared with another type than the plan's, or if a large constant has no slot.
    """
    layout = read_layout(data)
    regions: dict[str, list[Region]] = {}
    for offset, size in _constant_regions(layout):
        regions.setdefault(hashlib.sha256(data[offset : offset + size]).hexdigest(), []).append((offset, size))
    slots: list[Slot] = []
    for parameter in parameters:
        for part, packings, array in parts(weights.read(parameter)):
            slots.append(_find(regions, parameter, part, packings, array))
    offsets = [slot.offset for slot in slots]
    for slot in slots:
        if offsets.count(slot.offset) > 1:
            raise InternalError(f"{slot.part} of {slot.tensor} shares its bytes with another part")
    _refuse_wrong_types(layout, slots)
    return slots


def _constant_regions(layout: Layout) -> set[Region]:
    return {region for region in (*layout.buffers, *(tensor.scale for tensor in layout.tensors)) if region is not None}


def _find(
    regions: Mapping[str, list[Region]], parameter: str, part: str, packings: tuple[str, ...], array: NDArray[Any]
) -> Slot:
    for name in packings:
        found = regions.get(hashlib.sha256(packing.PACKINGS[name].pack(array)).hexdigest(), [])
        if len(found) > 1:
            raise InternalError(f"{part} of {parameter} is stored {len(found)} times: its signatures don't share it")
        if found:
            return Slot(parameter, part, name, array.shape, *found[0])
    raise InternalError(f"{part} of {parameter} is not in the lowered program")


def _refuse_wrong_types(layout: Layout, slots: Iterable[Slot]) -> None:
    """Every tensor of a slot has the slot's type, and what has no slot is small: nothing stayed unquantized."""
    at = {slot.offset: slot for slot in slots}
    for tensor in layout.constants():
        offset, size = layout.buffers[tensor.buffer] or (0, 0)
        slot = at.get(offset)
        if slot is None:
            if size > _LARGEST_WITHOUT_SLOT:
                raise InternalError(f"{tensor.name}: {size} bytes of {tensor.dtype} in the program belong to no weight")
        elif tensor.dtype != packing.PACKINGS[slot.packing].dtype:
            raise InternalError(f"{slot.tensor}: the program declares its {slot.part} as {tensor.dtype}")


def first_difference(filled: Path, lowered: Path) -> str:
    """What stands at the first byte in which two programs differ, in words; empty if they are the same."""
    one, other = filled.read_bytes(), lowered.read_bytes()
    if one == other:
        return ""
    layout, theirs = read_layout(one, filled.name), read_layout(other, lowered.name)
    sizes = [sorted(size for _, size in _constant_regions(each)) for each in (layout, theirs)]
    if sizes[0] != sizes[1]:
        return different_constants(*sizes)
    places: dict[Region, str] = {}
    for tensor in layout.constants():
        shape = "x".join(map(str, tensor.shape))
        label = f"the constant {tensor.name or tensor.index} of subgraph {tensor.subgraph}, {tensor.dtype} [{shape}]"
        places.setdefault(layout.buffers[tensor.buffer] or (0, 0), label)
        if tensor.scale is not None:
            places.setdefault(tensor.scale, f"the scales of {label}")
    return described(first_different_byte(one, other), places)


def fill(skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path) -> None:
    """Writes the skeleton's program with these weights to `path`. Peak memory: about two tensors.

    The bytes equal those of a real lowering of the same weights (satchel.validate.complete), unless two of its tensors
    have the same bytes: a converter stores those once. Raises BadWeightsError if a scale of an int4 group
    is beyond float16.
    """
    skeleton.unpack(path)
    with path.open("r+b") as file:
        for _ in packing.write_slots(file, skeleton.slots, weights, parts):
            pass


def read_back(path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint) -> dict[str, bool]:
    """tensor -> True if all that the file holds of it equals the checkpoint's, bit for bit; see packing.read_back."""
    return packing.read_back(path, slots, weights, parts, weights.plan.tensors)


_LARGEST_WITHOUT_SLOT = 1 << 16
