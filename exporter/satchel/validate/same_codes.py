"""One set of codes for all backends: every part of every tensor, unpacked from each program, is the same."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from satchel.backends.registry import backend_of
from satchel.bundle.folder import Bundle
from satchel.bundle.slots import read_slots
from satchel.formats.carried import OFFSET_PARTS
from satchel.formats.mlpackage_native import SHIFT
from satchel.formats.packing import PACKINGS, same_part
from satchel.quantize.plan import QuantPlan
from satchel.report.report import SameCodes
from satchel.skeleton.table import Slot


def compare(bundles: Sequence[Bundle]) -> SameCodes | None:
    """Compares the programs of bundles that were made from one model under one plan; None for fewer than two.

    The first bundle says which model and plan.
    """
    model = bundles[0].manifest.model.source.sha256
    tables = [
        (bundle, *read_slots(bundle.file("slots")))
        for bundle in bundles
        if bundle.manifest.model.source.sha256 == model
    ]
    fitting = [(bundle, plan, slots) for bundle, plan, slots in tables if plan == tables[0][1]]
    if len(fitting) < 2:
        return None
    located = [dict(_located(plan, slots)) for _, plan, slots in fitting]
    keys = sorted(set().union(*located))
    different: dict[str, None] = {}
    with ExitStack() as stack:
        files = [stack.enter_context(_weights_file(bundle).open("rb")) for bundle, _, _ in fitting]
        for key in keys:
            if not _same(key, list(zip(files, located, strict=True))):
                different[key[0]] = None
    names = tuple(bundle.manifest.backend for bundle, _, _ in fitting)
    return SameCodes(names, len({tensor for tensor, _ in keys}), tuple(different))


def _same(key: tuple[str, str], programs: Sequence[tuple[BinaryIO, Mapping[tuple[str, str], Slot]]]) -> bool:
    """Every program has the part, and the same numbers in it as one that does not round them, if there is one.

    Offsets inside the weight are another form of the same numbers, which only reading back compares.
    """
    tensor, part = key
    if part in OFFSET_PARTS:
        programs = [program for program in programs if (tensor, SHIFT) not in program[1]]
    elif part == SHIFT:
        return True
    if not all(key in table for _, table in programs):
        return False
    first, table = min(programs, key=lambda program: PACKINGS[program[1][key].packing].rounds)
    return all(same_part(first, table[key], file, other[key]) for file, other in programs)


def _weights_file(bundle: Bundle) -> Path:
    return backend_of(bundle).format.weights_file(bundle.file("program"))


def _located(plan: QuantPlan, slots: Sequence[Slot]) -> Iterator[tuple[tuple[str, str], Slot]]:
    """(tensor, part) -> slot. A tied head that a program stores apart is proven equal to the table by `weights`."""
    for slot in slots:
        if slot.tensor in plan.tensors:
            yield (slot.tensor, slot.part), slot
