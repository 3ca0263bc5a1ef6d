"""Where two Core ML packages that should be the same differ, by operation: a protocol buffer has no places."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from satchel.formats.differences import first_different_byte
from satchel.formats.mlpackage_program import Blob, Immediate, Operation, Package

_Told = tuple[str, Any]  # what is said of an operation's part, and the part as something that can be compared


def first_difference(filled: Path, lowered: Path) -> str:
    """What stands where two packages first differ, in words; empty if all their files are the same.

    Raises CorruptModelError if one is damaged.
    """
    one, other = Package.open(filled), Package.open(lowered)
    files = [sorted(file.relative_to(package.path) for file in package.files()) for package in (one, other)]
    if files[0] != files[1]:
        return f"one package has {files[0]}, the other {files[1]}"
    for name in files[0]:
        here, there = (filled / name).read_bytes(), (lowered / name).read_bytes()
        if here != there:
            said = _first_operation(one, other)
            return said or f"byte {first_different_byte(here, there)} of {name}, which is in no operation"
    return ""


def _first_operation(one: Package, other: Package) -> str:
    for told, theirs in zip_longest(_operations(one), _operations(other)):
        if told is None or theirs is None:
            return f"only one of them has the operation {(told or theirs)[0][0]}"
        for (words, value), (_, their_value) in zip_longest(told, theirs, fillvalue=("", None)):
            if value != their_value:
                return words or f"{told[0][0]} has other inputs"
    return ""


def _operations(package: Package) -> Iterator[list[_Told]]:
    for function in package.program.functions.values():
        yield from (list(_told(operation, package)) for operation in function.block.walk())


def _told(operation: Operation, package: Package) -> Iterator[_Told]:
    name = f"{operation.name} ({operation.type})"
    yield name, (operation.type, operation.name, [str(output) for output in operation.outputs])
    parts = [(part, value) for part, values in operation.inputs.items() for value in values]
    for part, value in [*parts, *operation.attributes.items()]:
        yield f"{part} of {name}", _comparable(value, package)


def _comparable(value: Any, package: Package) -> Any:
    if isinstance(value, Blob):
        file = package.blob_file(value.file)
        region = file.region(value.offset)
        with file.path.open("rb") as opened:
            opened.seek(region.start)
            return (str(value.type), opened.read(region.bytes))
    if isinstance(value, Immediate):
        return (str(value.type), _comparable(value.value, package))
    if isinstance(value, tuple):
        return tuple(_comparable(one, package) for one in value)
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype == object else value.tobytes()
    return value
