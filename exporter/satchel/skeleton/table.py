"""The Skeleton: a lowered program whose weights are zeros, with a table of slots that says where each weight goes.

Lowering takes minutes and depends only on shapes, the QuantPlan, the context and tool versions; filling takes seconds
and needs neither torch nor a converter. A backend's format module (satchel.formats) fills and reads back.
"""

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import IO, Any

from satchel.errors import InternalError

PROGRAM = "program.gz"
TABLE = "skeleton.json"
BESIDE = "beside"
_CHUNK = 1 << 22
_KEY = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True)
class Slot:
    """Where one part of one tensor lies in the artifact.

    part: codes | scale | offset_codes | offset_scale | values. packing: how the part becomes bytes, as the format
    module names it. offset, bytes: position and length in the file. key: the sha256 by which the file itself refers
    to these bytes, or None if it refers to them by position.
    """

    tensor: str
    part: str
    packing: str
    shape: tuple[int, ...]
    offset: int
    bytes: int
    key: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The slot as JSON data, the form of every file that has slots; `key` matters to a skeleton alone."""
        fields = {**vars(self), "shape": list(self.shape)}
        del fields["key"]
        return fields

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Slot":
        return cls(**{**data, "shape": tuple(data["shape"])})


@dataclass(frozen=True)
class Skeleton:
    """A folder with the compressed program and its table.

    beside: paths of what a program that is a folder has besides the file with the slots, kept as it is.
    regions: (offset, bytes) of the file where keys are written as text and must follow the weights.
    proof: the graph proof's figures, obtained when the skeleton was lowered, so that a second model reuses them.
    ids: "bos_id" and "stop_ids" -> positions of the int64 numbers by which the file tells them, none if it does not.
    told: position -> what is to stand there.
    """

    folder: Path
    backend: str
    slots: tuple[Slot, ...]
    regions: tuple[tuple[int, int], ...]
    size: int
    proof: Mapping[str, Any]
    beside: tuple[str, ...] = ()
    ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    told: Mapping[int, int] = field(default_factory=dict)

    def telling(self, bos_id: int | None, stop_ids: Sequence[int]) -> "Skeleton":
        """The skeleton of a program that tells these ids to runners that ask."""
        return replace(self, told=numbers_told(self.ids, bos_id, stop_ids))

    def unpack(self, path: Path) -> None:
        """Writes the program with its zeroed slots, and the ids that it tells, to `path`."""
        with gzip.open(self.folder / PROGRAM, "rb") as source, path.open("wb") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
            for at, number in self.told.items():
                target.seek(at)
                target.write(number.to_bytes(8, "little", signed=True))
        if path.stat().st_size != self.size:
            raise InternalError(f"{self.folder}: the skeleton unpacks to {path.stat().st_size} bytes, not {self.size}")

    def difference(self, program: Path, weights_file: Path) -> str:
        """Where `program` is another program than this skeleton's, in words; empty if it differs in its weights alone.

        Outside the slots every byte must be the skeleton's, but for the keys in its regions, which must be the hashes
        of the weights that are there, and for the ids that it tells. weights_file: the file that has the slots,
        `program` itself or one in it. Reads a chunk at a time.
        """
        for name in self.beside:
            if (
                not (program / name).is_file()
                or (program / name).read_bytes() != (self.folder / BESIDE / name).read_bytes()
            ):
                return f"{name} is another file than the skeleton's"
        if (size := weights_file.stat().st_size) != self.size:
            return f"{weights_file.name} has {size} bytes, the skeleton {self.size}"
        with gzip.open(self.folder / PROGRAM, "rb") as own, weights_file.open("rb") as other:
            keys = dict(self._keys(other))
            for start, end, with_keys in self._between_slots():
                own.seek(start)
                other.seek(start)
                while start < end:
                    length = end - start if with_keys else min(_CHUNK, end - start)
                    expected, found = self._with_told(own.read(length), start), other.read(length)
                    if with_keys:
                        expected = _KEY.sub(lambda key: keys.get(key.group(), key.group()), expected)
                    if expected != found:
                        at = next(i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b)
                        return (
                            f"byte {start + at} of {weights_file.name} belongs to no weight and is not the skeleton's"
                        )
                    start += length
        return ""

    def _with_told(self, data: bytes, start: int) -> bytes:
        """A piece of the skeleton's program from byte `start` on, with what is told in it."""
        piece = bytearray(data)
        for at, number in self.told.items():
            for byte, value in enumerate(number.to_bytes(8, "little", signed=True), at - start):
                if 0 <= byte < len(piece):
                    piece[byte] = value
        return bytes(piece)

    def _keys(self, file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """The skeleton's key of each slot that has one -> the key of what the file has there."""
        for slot in self.slots:
            if slot.key is not None:
                file.seek(slot.offset)
                yield slot.key.encode(), hashlib.sha256(file.read(slot.bytes)).hexdigest().encode()

    def _between_slots(self) -> Iterator[tuple[int, int, bool]]:
        """(start, end, has keys) of all that no slot covers, in order."""
        position = 0
        covered = [(slot.offset, slot.bytes, False) for slot in self.slots]
        for start, length, with_keys in sorted([*covered, *((start, size, True) for start, size in self.regions)]):
            if position < start:
                yield position, start, False
            if with_keys:
                yield start, start + length, True
            position = max(position, start + length)
        if position < self.size:
            yield position, self.size, False

    def copy_beside(self, program: Path) -> None:
        """Writes the other files of a program that is the folder `program`."""
        for name in self.beside:
            (program / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / BESIDE / name, program / name)


def numbers_told(ids: Mapping[str, Sequence[int]], bos_id: int | None, stop_ids: Sequence[int]) -> dict[int, int]:
    """`Skeleton.told` of these ids; -1 is none.

    Runners take the stop ids as a set: where there is room for more, the last is repeated. Of more than there is room
    for, the first are told.
    """
    told = dict.fromkeys(ids.get("bos_id", ()), -1 if bos_id is None else bos_id)
    stops = chain(stop_ids, repeat(stop_ids[-1] if stop_ids else -1))
    return told | dict(zip(ids.get("stop_ids", ()), stops, strict=False))


def write_skeleton(
    folder: Path,
    *,
    backend: str,
    program: bytearray,
    slots: Sequence[Slot],
    regions: Sequence[tuple[int, int]],
    proof: Mapping[str, Any],
    beside: Mapping[str, bytes] | None = None,
    ids: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Zeroes the slots of `program` (in place) and writes program and table to `folder`.

    beside: path -> contents of the program's other files, if it is a folder. ids: see Skeleton.
    """
    for slot in slots:
        program[slot.offset : slot.offset + slot.bytes] = bytes(slot.bytes)
    # mtime 0: the same program gives the same file.
    with (folder / PROGRAM).open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
        packed.write(program)
    for name, contents in (beside or {}).items():
        (folder / BESIDE / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / BESIDE / name).write_bytes(contents)
    table = {
        "backend": backend,
        "size": len(program),
        "slots": [{**slot.to_json(), "key": slot.key} for slot in slots],
        "regions": [list(region) for region in regions],
        "proof": dict(proof),
        "beside": sorted(beside or ()),
        "ids": {name: list(positions) for name, positions in (ids or {}).items()},
    }
    (folder / TABLE).write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_skeleton(folder: Path) -> Skeleton:
    """The skeleton that `write_skeleton` left in `folder`."""
    table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
    return Skeleton(
        folder=folder,
        backend=table["backend"],
        slots=tuple(Slot.from_json(slot) for slot in table["slots"]),
        regions=tuple((start, size) for start, size in table["regions"]),
        size=table["size"],
        proof=table["proof"],
        beside=tuple(table["beside"]),
        ids={name: tuple(positions) for name, positions in table["ids"].items()},
    )
