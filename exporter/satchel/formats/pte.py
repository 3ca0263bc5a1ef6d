"""The ExecuTorch program file (.pte): where its weights lie, how they are packed, filled in and read back.

Layout (ExecuTorch 1.5.1, `program.fbs`): a flatbuffer program with an extended header at byte 8, then segments. Weights
of XNNPACK delegates are named data, one segment each, whose key holds the sha256 of the bytes; the delegates'
payloads name the same keys. Weights that no delegate took (the embedding) lie in the constant segment.
"""

import hashlib
import mmap
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from satchel.errors import CorruptModelError, InternalError
from satchel.formats import carried, packing
from satchel.formats.carried import part_bytes
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


@dataclass(frozen=True)
class Layout:
    """Regions of a .pte as (offset, bytes) in the file.

    named: content key -> region. constants: regions of the constant segment. payloads: delegates' payloads.
    program: the flatbuffer itself.
    """

    program: tuple[int, int]
    named: Mapping[str, tuple[int, int]]
    constants: tuple[tuple[int, int], ...]
    payloads: tuple[tuple[int, int], ...]


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
    constants: list[tuple[int, int]] = []
    if constant is not None and constant.integers(1, UINT64):
        start, size = segments[constant.integer(0)]
        offsets = sorted(set(constant.integers(1, UINT64)))
        for index, offset in enumerate(offsets):
            end = offsets[index + 1] if index + 1 < len(offsets) else size
            constants.append((start + offset, end - offset))
    return Layout((0, program_size), named, tuple(constants), tuple(payloads))


def find_slots(data: bytes | bytearray, weights: QuantizedCheckpoint, parameters: Iterable[str]) -> list[Slot]:
    """The table of slots of a program lowered from `weights`, found by content: every part must occur exactly once.

    Raises InternalError if a part is missing or two parts have the same bytes (placeholders must be distinct).
    """
    layout = read_layout(data)
    by_key = {content_of(key): (key, region) for key, region in layout.named.items()}
    slots: list[Slot] = []
    taken: set[int] = set()
    for parameter in parameters:
        for part, packings, array in parts(weights.read(parameter)):
            slot = _find(data, layout, by_key, parameter, part, packings, array)
            if slot is None or slot.offset in taken:
                problem = "is not in the lowered program" if slot is None else "shares its bytes with another part"
                raise InternalError(f"{part} of {parameter} {problem}")
            taken.add(slot.offset)
            slots.append(slot)
    return slots


def _find(
    data: bytes | bytearray,
    layout: Layout,
    by_key: Mapping[str, tuple[str, tuple[int, int]]],
    parameter: str,
    part: str,
    packings: tuple[str, ...],
    array: NDArray[Any],
) -> Slot | None:
    for name in packings:
        packed = packing.PACKINGS[name].pack(array)
        digest = hashlib.sha256(packed).hexdigest()
        if digest in by_key:
            _, (offset, size) = by_key[digest]
            if size == len(packed):
                return Slot(parameter, part, name, array.shape, offset, size, digest)
        for offset, size in layout.constants:
            if 0 <= size - len(packed) < _ALIGNMENT and data[offset : offset + len(packed)] == packed:
                return Slot(parameter, part, name, array.shape, offset, len(packed))
    return None


def fill(skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path) -> None:
    """Writes the skeleton's program with these weights to `path`. Peak memory: about two tensors.

    The bytes equal those of a real lowering of the same weights.
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
