"""The ExecuTorch program file (.pte): where its weights lie, how they are packed, filled in and read back.

Layout (ExecuTorch 1.5.1, `program.fbs`): a flatbuffer program with an extended header at byte 8, then segments. Weights
of XNNPACK delegates are named data, one segment each, whose key holds the sha256 of the bytes; the delegates'
payloads name the same keys. Weights that no delegate took (the embedding) lie in the constant segment.
"""

import hashlib
import mmap
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import CorruptModelError, InternalError
from satchel.formats import carried, packing
from satchel.formats.carried import part_bytes
from satchel.formats.differences import described, different_constants, first_different_byte
from satchel.formats.flatbuffer import UINT64, Table
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.quantize.plan import QuantPlan
from satchel.skeleton.table import Skeleton, Slot
from satchel.source.checkpoint import EMBEDDING, HEAD

PROGRAM_FILE = "model.pte"


def parts(tensor: QuantizedTensor) -> Iterator[tuple[str, tuple[str, ...], NDArray[Any]]]:
    """(part, possible packings, array) of everything the file holds of this tensor."""
    return carried.parts(tensor, int4="int4", group_scale="bfloat16")


def predict_bytes(
    plan: QuantPlan, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], context_length: int
) -> int:
    """Size of the .pte before anything is built, from the plan alone.

    shapes: of every tensor of the plan. A tied table is stored twice, as embedding and as head. What surrounds the
    weights (graph, delegates, alignment) was measured on 2 and 30 layers: about 19 KB per layer and 14 KB.
    """
    weights = sum(part_bytes(plan[name], shape) for name, shape in shapes.items())
    if plan.tied:
        weights += part_bytes(plan[HEAD], shapes[EMBEDDING])
    inputs = {(shapes[name][1], entry.group) for name, entry in plan.tensors.items() if entry.offset}
    block_sums = sum(4 * (width // group) * width for width, group in inputs)
    return weights + block_sums + 19_000 * int(config["num_hidden_layers"]) + 14_000


def weights_file(program: Path) -> Path:
    """The file that slots lie in: the program itself."""
    return program


# --- the file -----------------------------------------------------------------------------------------------------


Region = tuple[int, int]  # offset and bytes in the file


@dataclass(frozen=True)
class Layout:
    """Regions of a .pte as (offset, bytes) in the file.

    named: content key -> region. constants: regions of the constant segment, each with what aligns the next one.
    payloads: delegates' payloads. program: the flatbuffer itself. others: segments that are none of these.
    """

    program: Region
    named: Mapping[str, Region]
    constants: tuple[Region, ...]
    payloads: tuple[Region, ...]
    others: tuple[Region, ...] = ()


def read_layout(data: bytes | bytearray | memoryview | mmap.mmap, name: str = PROGRAM_FILE) -> Layout:
    """Reads the program's tables. Raises CorruptModelError if this is no .pte or is truncated."""
    if len(data) < 64 or bytes(data[4:6]) != b"ET" or bytes(data[8:12]) != b"eh00":
        raise CorruptModelError(f"{name} is not an ExecuTorch program with segments: build it again")
    program_size, base, segments_size = struct.unpack_from("<QQQ", data, 16)
    if len(data) < base + segments_size:
        raise CorruptModelError(f"{name} is truncated: {len(data)} bytes of {base + segments_size}; build it again")
    program = Table.root(data)
    segments = [(base + s.uint64(0), s.uint64(1)) for s in program.tables(4)]
    named = {entry.string(0): segments[entry.integer(1)] for entry in program.tables(7)}
    payloads = []
    for plan in program.tables(1):
        for delegate in plan.tables(7):
            processed = delegate.table(1)
            if processed is not None:
                payloads.append(segments[processed.integer(1)])
    constant = program.table(5)
    constants: list[Region] = []
    known = {*named.values(), *payloads}
    if constant is not None and constant.integers(1, UINT64):
        start, size = segments[constant.integer(0)]
        known.add((start, size))
        offsets = sorted(set(constant.integers(1, UINT64)))
        for index, offset in enumerate(offsets):
            end = offsets[index + 1] if index + 1 < len(offsets) else size
            constants.append((start + offset, end - offset))
    others = tuple(segment for segment in segments if segment not in known)
    return Layout((0, program_size), named, tuple(constants), tuple(payloads), others)


def find_slots(data: bytes | bytearray, weights: QuantizedCheckpoint, parameters: Iterable[str]) -> list[Slot]:
    """The table of slots of a program lowered from `weights`, found by content: every part must occur exactly once.

    Raises InternalError if a part is missing, is stored more than once, wherever that is in the file, shares its bytes
    with another part (placeholders must be distinct), or if a large constant has no slot.
    """
    layout = read_layout(data)
    by_digest: dict[str, list[tuple[Region, str | None]]] = {}
    for key, (offset, size) in layout.named.items():
        digest = hashlib.sha256(memoryview(data)[offset : offset + size]).hexdigest()
        by_digest.setdefault(digest, []).append(((offset, size), digest if content_of(key) == digest else None))
    slots: list[Slot] = []
    taken: set[int] = set()
    for parameter in parameters:
        for part, packings, array in parts(weights.read(parameter)):
            found = list(_find(data, layout, by_digest, parameter, part, packings, array))
            if len(found) != 1:
                times = f"is stored {len(found)} times, not once," if found else "is not"
                raise InternalError(f"{part} of {parameter} {times} in the lowered program")
            if found[0].offset in taken:
                raise InternalError(f"{part} of {parameter} shares its bytes with another part")
            taken.add(found[0].offset)
            slots += found
    _refuse_what_has_no_slot(data, layout, taken)
    return slots


def _find(
    data: bytes | bytearray,
    layout: Layout,
    by_digest: Mapping[str, list[tuple[Region, str | None]]],
    parameter: str,
    part: str,
    packings: tuple[str, ...],
    array: NDArray[Any],
) -> Iterator[Slot]:
    """Every place in the file that holds the part, in whichever of its packings."""
    for name in packings:
        packed = packing.PACKINGS[name].pack(array)
        for (offset, size), key in by_digest.get(hashlib.sha256(packed).hexdigest(), []):
            yield Slot(parameter, part, name, array.shape, offset, size, key)
        for offset, size in layout.constants:
            if 0 <= size - len(packed) < _ALIGNMENT and data[offset : offset + len(packed)] == packed:
                yield Slot(parameter, part, name, array.shape, offset, len(packed))
        for start, size in (layout.program, *layout.payloads, *layout.others):
            # Nothing says where a constant would begin in these: no slot can lie in them, but a copy could.
            if (offset := data.find(packed, start, start + size)) >= 0:
                yield Slot(parameter, part, name, array.shape, offset, len(packed))


def _refuse_what_has_no_slot(data: bytes | bytearray, layout: Layout, taken: Collection[int]) -> None:
    """What belongs to no weight is small, or one of the constants that the lowering is known to make."""
    for offset, size in (*layout.named.values(), *layout.constants, *layout.others):
        if offset not in taken and size > _LARGEST_WITHOUT_SLOT and not _is_wiring(data[offset : offset + size]):
            raise InternalError(f"{size} bytes at {offset} of the program belong to no weight")


def _is_wiring(constant: bytes | bytearray) -> bool:
    """True for a float32 matrix of 0, 1 and -1, which sums blocks or turns halves (satchel.lower), and for the int64
    positions of the context: no placeholder weight looks like them."""
    if not np.setdiff1d(np.frombuffer(constant[: len(constant) // 4 * 4], np.uint32), _WIRES).size:
        return True
    numbers = np.frombuffer(constant[: len(constant) // 8 * 8], np.int64)
    count = int(np.argmax(numbers)) + 1  # what is behind the last position aligns the next constant
    return bool(np.array_equal(numbers[:count], np.arange(count)) and 8 * (len(numbers) - count) < _ALIGNMENT)


def first_difference(filled: Path, lowered: Path) -> str:
    """What stands at the first byte in which two programs differ, in words; empty if they are the same."""
    one, other = filled.read_bytes(), lowered.read_bytes()
    if one == other:
        return ""
    layout, theirs = read_layout(one, filled.name), read_layout(other, lowered.name)
    sizes = [sorted(size for _, size in (*each.named.values(), *each.constants)) for each in (layout, theirs)]
    if sizes[0] != sizes[1]:
        return different_constants(*sizes)
    # Constants first: the tables and the delegates' graphs differ wherever they name one by its sha256.
    at = first_different_byte(one, other)
    for offset, size in sorted((*layout.named.values(), *layout.constants)):
        if one[offset : offset + size] != other[offset : offset + size]:
            at = offset + first_different_byte(one[offset : offset + size], other[offset : offset + size])
            break
    places = {
        **dict.fromkeys(layout.named.values(), "a constant of a delegate"),
        **dict.fromkeys(layout.constants, "a constant outside of the delegates"),
        **dict.fromkeys(layout.payloads, "the graph of a delegate"),
        **dict.fromkeys(layout.others, "a segment of an unknown kind"),
        layout.program: "the program's own tables",
    }
    return described(at, places)


def fill(skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path) -> None:
    """Writes the skeleton's program with these weights to `path`. Peak memory: about two tensors.

    The bytes equal those of a real lowering of the same weights (satchel.validate.complete), unless two of its tensors
    have the same bytes: a converter stores those once.
    """
    skeleton.unpack(path)
    renamed: dict[bytes, bytes] = {}
    with path.open("r+b") as file:
        for slot, packed in packing.write_slots(file, skeleton.slots, weights, parts):
            if slot.key is not None:
                renamed[slot.key.encode()] = hashlib.sha256(packed).hexdigest().encode()
        for offset, size in skeleton.regions:
            file.seek(offset)
            text = _KEY.sub(lambda match: renamed.get(match.group(), match.group()), file.read(size))
            file.seek(offset)
            file.write(text)


def read_back(path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint) -> dict[str, bool]:
    """tensor -> True if all that the file holds of it equals the checkpoint's, bit for bit."""
    plan = weights.plan
    return packing.read_back(path, slots, weights, parts, [*plan.tensors, *([HEAD] if plan.tied else [])])


def regions_with_keys(data: bytes | bytearray) -> tuple[tuple[int, int], ...]:
    """The regions whose text names weights by content: the program and every delegate's payload."""
    layout = read_layout(data)
    return (layout.program, *layout.payloads)


def content_of(key: str) -> str:
    """The sha256 within a named data key (scales are keyed `scale_<sha256>`)."""
    return key.removeprefix("scale_")


_KEY = re.compile(rb"[0-9a-f]{64}")
_ALIGNMENT = 256
_LARGEST_WITHOUT_SLOT = 1 << 16
_WIRES = np.array([0.0, 1.0, -1.0], np.float32).view(np.uint32)
