"""Reads an .mlpackage's tensors from the files alone: every constant in a blob file, with the operation that reads it.

That is evidence independent of our own table of slots, which only says whose part a constant is.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from satchel.errors import CorruptModelError
from satchel.formats.mlpackage_blobs import BlobFile
from satchel.formats.mlpackage_program import Function, Operation, Package
from satchel.formats.pte_inspect import StoredTensor, slot_names

_USES = {"linear": "linear", "matmul": "linear", "conv": "convolution", "conv_transpose": "convolution"}
# A const's value, or what a constexpr operation is made from.
_PARTS = {"val": "values", "data": "codes", "indices": "codes", "quantized_data": "codes", "nonzero_data": "codes"}
_Readers = Mapping[str, Sequence[tuple[Operation, str]]]  # value -> (operation, its input) of all that read it


def tensors(package: Path, slots: Path | None = None) -> Iterator[StoredTensor]:
    """Every constant of the package's blob files by name. slots: the bundle's slots.json, which names the parts.

    Raises CorruptModelError if this is no package or is damaged, UnsupportedModelError if it is no ML Program.
    """
    opened = Package.open(package)
    try:
        names = slot_names(slots) if slots is not None else {}
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModelError(f"{slots} is damaged ({error}): build it again") from error
    files: dict[PurePosixPath, BlobFile] = {}
    found: dict[tuple[PurePosixPath, int], StoredTensor] = {}
    for function in opened.program.functions.values():
        readers = _readers(function)
        for operation, part, blob in function.blobs():
            path = opened.blob_path(blob.file)
            if path not in files:
                files[path] = opened.blob_file(blob.file)
            region = files[path].region(blob.offset)
            if (path, region.start) in found:
                continue
            own_part = _PARTS.get(part, part)
            name, part_name, *_ = names.get(region.start, (operation.name, own_part))
            use = _use(readers, operation) if own_part in ("values", "codes") else ""
            shape = tuple(size or 0 for size in blob.type.shape)
            found[path, region.start] = StoredTensor(name, part_name, region.dtype, shape, region.bytes, use)
    yield from sorted(found.values(), key=lambda tensor: (tensor.name, tensor.part))


def _readers(function: Function) -> _Readers:
    readers: dict[str, list[tuple[Operation, str]]] = defaultdict(list)
    for operation in function.block.walk():
        for part, values in operation.inputs.items():
            for value in values:
                if isinstance(value, str):
                    readers[value].append((operation, part))
    return readers


def _use(readers: _Readers, constant: Operation) -> str:
    """What the program does with a weight, directly or dequantized: linear, embedding, convolution; else nothing."""
    uses = set()
    for output in constant.outputs:
        for operation, part in readers.get(output.name, ()):
            if operation.type == "gather" and part == "x":
                uses.add("embedding")
            elif part in ("weight", "x", "y") and operation.type in _USES:
                uses.add(_USES[operation.type])
            elif operation.type.startswith("constexpr_"):
                uses.add(_use(readers, operation))
    return " and ".join(sorted(uses - {""}))
