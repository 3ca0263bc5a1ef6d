"""Where a .pte tells the ids that open a text and end an answer: constant methods, `get_bos_id` and `get_eos_ids`.

ExecuTorch's own runners ask for them. A fine-tune often has another stop token and is the same graph: so a program is
lowered with markers in their places, which are found by content and overwritten when it is filled.
"""

from collections.abc import Mapping, Sequence

from satchel.errors import InternalError
from satchel.formats.pte import read_layout
from satchel.skeleton.table import numbers_told

ROOM = 16  # stop ids that a program can tell; models have one to four
# Numbers that occur nowhere else in a program, and are no token.
BOS_MARKER = 0x5A7C_E100_0B05_1D00
STOP_MARKERS = tuple(0x5A7C_E100_0E05_1D00 + index for index in range(ROOM))


def find_ids(data: bytes | bytearray) -> Mapping[str, tuple[int, ...]]:
    """`Skeleton.ids` of a program with the markers. Raises InternalError unless each occurs exactly once."""
    start, size = read_layout(data).program
    program = bytes(data[start : start + size])

    def place(marker: int) -> int:
        wanted = marker.to_bytes(8, "little")
        if program.count(wanted) != 1:
            raise InternalError(f"the program has the marker of an id {program.count(wanted)} times, not once")
        return start + program.index(wanted)

    return {"bos_id": (place(BOS_MARKER),), "stop_ids": tuple(map(place, STOP_MARKERS))}


def tell_ids(program: bytearray, bos_id: int | None, stop_ids: Sequence[int]) -> None:
    """Writes the ids over the markers of a lowered program, as unpacking its skeleton does."""
    for at, number in numbers_told(find_ids(program), bos_id, stop_ids).items():
        program[at : at + 8] = number.to_bytes(8, "little", signed=True)
