"""Completeness: a Skeleton has a slot for everything in the program that depends on a weight.

Slots are found by content, so what a converter makes of a weight in a way that nobody thought of (a folded constant, a
second copy) would have none, and would keep the placeholder's numbers in every model. This finds it whatever it is: the
Skeleton, lowered with placeholders, is filled with other weights, and must then be the program that those weights are
lowered to, byte for byte.

The weights are random, so that no two tensors are equal. Of a real model's two may be (norms that are all ones), and a
converter stores equal constants once; the filled program then has each of them, with the same numbers in a larger file.
"""

import tempfile
from pathlib import Path

from satchel.backends.backend import Backend, Program
from satchel.errors import InternalError
from satchel.lower.decoder import parameter_shapes
from satchel.lower.placeholder import TiedPlaceholders
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import read_skeleton

_OTHER_SEED = 1


def what_no_slot_explains(spec: ProgramSpec, backend: Backend) -> str:
    """The first place, in words, where the filled Skeleton of `spec` is not the lowered program; empty if none is.

    A part of a weight that is not in the program exactly once is such a place too. Lowers twice.
    """
    weights = TiedPlaceholders(spec.plan, parameter_shapes(spec.config), {}, seed=_OTHER_SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        skeleton, filled, lowered = folder / "skeleton", folder / "filled", folder / "lowered"
        skeleton.mkdir()
        try:
            backend.lower(spec, skeleton, {})
        except InternalError as error:
            return str(error)
        backend.format.fill(read_skeleton(skeleton).telling(spec.bos_id, spec.stop_ids), weights, filled)
        write_program(lowered, backend.lower_weights(spec, weights))
        return backend.format.first_difference(filled, lowered)


def write_program(path: Path, program: Program) -> None:
    """Writes a program to the file `path`, or if it has several files, to the folder `path`."""
    if isinstance(program, bytes | bytearray):
        path.write_bytes(program)
        return
    for name, contents in program.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(contents)
