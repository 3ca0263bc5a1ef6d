"""Reads a .tflite's tensors from the file alone: every constant with the type, shape and operator it declares.

That is evidence independent of our own table of slots, which only says whose part a constant is.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from flatbuffers import number_types

from satchel.errors import CorruptModelError
from satchel.formats.flatbuffer import Table
from satchel.formats.pte_inspect import StoredTensor, slot_names
from satchel.formats.tflite import Layout, Region, read_layout

_OPERATORS = {7: "embedding", 9: "linear"}  # EMBEDDING_LOOKUP, FULLY_CONNECTED
_INT32 = number_types.Int32Flags


def tensors(file: Path, slots: Path | None = None) -> Iterator[StoredTensor]:
    """Every constant of the .tflite by name. slots: the bundle's slots.json, which says whose parts they are.

    Raises CorruptModelError if the file is no .tflite or is damaged.
    """
    try:
        names = slot_names(slots) if slots is not None else {}
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            layout = read_layout(data, file.name)
            found = sorted(_constants(layout, _uses(data), names), key=lambda tensor: (tensor.name, tensor.part))
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:  # a position or number out of bounds
        raise CorruptModelError(f"{file} or its slots.json is damaged ({error}): build it again") from error
    yield from found


def _constants(
    layout: Layout, uses: Mapping[tuple[int, int], str], names: Mapping[int, tuple[str, str, str, tuple[int, ...]]]
) -> Iterator[StoredTensor]:
    seen: set[Region] = set()
    for tensor in layout.constants():
        region = layout.buffers[tensor.buffer]
        use = uses.get((tensor.subgraph, tensor.index), "")
        places = [(region, tensor.dtype, tensor.shape, use)]
        if tensor.scale is not None:
            places.append((tensor.scale, "float32", tensor.shape[:1], ""))
        for place, dtype, shape, used_as in places:
            if place is None or place in seen:
                continue
            seen.add(place)
            name, part, *_ = names.get(place[0], (tensor.name or f"constant at {place[0]}", "constant"))
            yield StoredTensor(name, part, dtype, shape, place[1], used_as)


def _uses(data: mmap.mmap) -> dict[tuple[int, int], str]:
    """(subgraph, tensor) -> what the operators that read it do with it."""
    model = Table.root(data)
    # Operators above 126 are only in the newer of the two fields.
    kinds = [max(code.integer(0, number_types.Int8Flags), code.integer(3, _INT32)) for code in model.tables(1)]
    uses = {}
    for number, subgraph in enumerate(model.tables(2)):
        for operator in subgraph.tables(3):
            kind = _OPERATORS.get(kinds[operator.integer(0)])
            if kind is not None:
                uses.update({(number, tensor): kind for tensor in operator.integers(1, _INT32)})
    return uses
