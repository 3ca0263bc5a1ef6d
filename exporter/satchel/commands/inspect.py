"""Lists what is in an artifact: every tensor with dtype, shape, bytes and bits, read from the file itself."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from satchel.bundle.folder import find_bundles
from satchel.bundle.manifest import MANIFEST
from satchel.errors import ModelNotFoundError, UsageError
from satchel.formats import mlpackage_inspect, pte_inspect, tflite_inspect
from satchel.formats.pte_inspect import StoredTensor
from satchel.hashing import content_bytes


@dataclass(frozen=True)
class TensorRow:
    """One stored tensor. name: the model's if the bundle's slots tell it, else the file's own. part: codes, scale, ...
    dtype and shape as the file declares them. used_as: the operator that reads it, where the file says so."""

    artifact: str
    name: str
    part: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    used_as: str

    @property
    def bits(self) -> float:
        """Bits per number; parts for themselves, so that a weight's scales are rows of their own."""
        return 8 * self.bytes / max(math.prod(self.shape), 1)


@dataclass(frozen=True)
class Listing:
    """What `satchel inspect` prints."""

    tensors: tuple[TensorRow, ...]
    artifacts: Mapping[str, Mapping[str, Any]]

    columns = ("tensor", "part", "dtype", "shape", "bytes", "bits", "used as")
    right = ("bytes", "bits")

    @property
    def rows(self) -> list[tuple[str, ...]]:
        listed = [
            (
                row.name,
                row.part,
                row.dtype,
                "x".join(map(str, row.shape)),
                f"{row.bytes:,}",
                f"{row.bits:g}",
                row.used_as,
            )
            for row in self.tensors
        ]
        totals = [
            (name, "in all", "", "", f"{facts['bytes']:,}", "", facts["summary"])
            for name, facts in self.artifacts.items()
        ]
        return [*listed, *totals]

    def to_dict(self) -> dict[str, Any]:
        return {
            "artifacts": dict(self.artifacts),
            "tensors": [{**asdict(row), "bits": row.bits} for row in self.tensors],
        }


def inspect(path: Path) -> Listing:
    """The listing of an artifact, of a bundle, or of all bundles in a folder. Raises UsageError for other files."""
    if not path.exists():
        raise ModelNotFoundError(f"{path} does not exist. Name an artifact, a bundle folder or the folder above it.")
    files = [path] if path.is_file() or path.suffix in _READERS else _programs(path)
    rows: list[TensorRow] = []
    artifacts: dict[str, Mapping[str, Any]] = {}
    for file in files:
        read = _READERS.get(file.suffix)
        if read is None:
            raise UsageError(f"{file} is no artifact that can be inspected. Kinds: {', '.join(sorted(_READERS))}.")
        slots = file.with_name("slots.json") if file.with_name(MANIFEST).is_file() else None
        found = [TensorRow(file.name, **vars(tensor)) for tensor in read(file, slots)]
        rows += found
        artifacts[file.name] = {"bytes": content_bytes(file), "summary": _summary(found)}
    return Listing(tuple(rows), artifacts)


def _programs(folder: Path) -> list[Path]:
    return [bundle.file("program") for bundle in find_bundles(folder)]


def _summary(rows: Sequence[TensorRow]) -> str:
    """How many tensors of which kind, as the file uses them: `210 linear int4, 1 linear int8, ...`."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.part in ("codes", "values", "constant"):
            kind = f"{row.used_as} {row.dtype}".strip()
            counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))


# suffix -> reader of a file or package and its bundle's slots.json (None for a file by itself)
_READERS: Mapping[str, Callable[[Path, Path | None], Iterator[StoredTensor]]] = {
    ".mlpackage": mlpackage_inspect.tensors,
    ".pte": pte_inspect.tensors,
    ".tflite": tflite_inspect.tensors,
}
