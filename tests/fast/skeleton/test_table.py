"""An artifact is its skeleton but for its weights: one changed byte anywhere else is found, and only there."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satchel.skeleton.table import Skeleton, Slot, read_skeleton, write_skeleton

KEY = b"0123456789abcdef" * 4
TEXT = b"names a weight by content: " + KEY + b"; and one more: " + KEY + b"."
WEIGHTS = ((40, 100), (140, 60), (500, 1000))  # the first two side by side
SIZE = 9_000_000  # more than one chunk
REGION = (2000, len(TEXT))


@pytest.fixture(scope="module")
def program() -> bytes:
    content = bytearray(np.random.default_rng(5).bytes(SIZE))
    content[REGION[0] : sum(REGION)] = TEXT
    return bytes(content)


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory, program: bytes) -> Skeleton:
    folder = tmp_path_factory.mktemp("skeleton")
    slots = [Slot(f"t{start}", "codes", "int8", (size,), start, size) for start, size in WEIGHTS]
    slots[2] = replace(slots[2], key=KEY.decode())
    write_skeleton(
        folder,
        backend="x",
        program=bytearray(program),
        slots=slots,
        regions=[REGION],
        proof={"max_abs": 0.0},
        beside={"sub/model.txt": b"graph"},
    )
    return read_skeleton(folder)


def key_of(content: bytes | bytearray) -> bytes:
    """The key of what lies in the slot that has one."""
    start, size = WEIGHTS[2]
    return hashlib.sha256(content[start : start + size]).hexdigest().encode()


def with_keys(content: bytes) -> bytearray:
    """As a program is filled: the region names what is in the slot."""
    filled = bytearray(content)
    filled[REGION[0] : sum(REGION)] = TEXT.replace(KEY, key_of(content))
    return filled


def artifact(folder: Path, content: bytes, beside: bytes = b"graph") -> Path:
    (folder / "sub").mkdir()
    (folder / "sub" / "model.txt").write_bytes(beside)
    (folder / "weights.bin").write_bytes(content)
    return folder


def difference(skeleton: Skeleton, folder: Path) -> str:
    return skeleton.difference(folder, folder / "weights.bin")


def test_other_weights_and_their_keys_are_no_difference(skeleton: Skeleton, program: bytes, tmp_path: Path) -> None:
    content = bytearray(program)
    for start, size in WEIGHTS:
        content[start : start + size] = bytes([7]) * size
    content[REGION[0] : sum(REGION)] = TEXT.replace(KEY, key_of(content))
    assert difference(skeleton, artifact(tmp_path, bytes(content))) == ""


def test_a_key_of_other_bytes_than_those_that_are_there_is_named(
    skeleton: Skeleton, program: bytes, tmp_path: Path
) -> None:
    """The runtime would look for a weight that is not there, or take another one's."""
    content = bytearray(program)
    content[REGION[0] : sum(REGION)] = TEXT.replace(KEY, key_of(content), 1)  # the second one stays as it was
    assert "of weights.bin belongs to no weight" in difference(skeleton, artifact(tmp_path, bytes(content)))


AT = [0, 39, 200, 499, 1500, 1999, REGION[0], REGION[0] + 26, sum(REGION) - 1, sum(REGION), (1 << 22) + 2300, SIZE - 1]


@pytest.mark.parametrize("at", AT)
def test_one_byte_outside_the_weights_is_named(skeleton: Skeleton, program: bytes, tmp_path: Path, at: int) -> None:
    content = with_keys(program)
    content[at] ^= 1
    assert f"byte {at} of weights.bin belongs to no weight" in difference(skeleton, artifact(tmp_path, bytes(content)))


@pytest.mark.parametrize("at", [40, 139, 140, 199, 500, 1499])
def test_the_first_and_last_byte_of_a_weight_are_its_own(
    skeleton: Skeleton, program: bytes, tmp_path: Path, at: int
) -> None:
    content = with_keys(program)
    content[at] ^= 1
    assert difference(skeleton, artifact(tmp_path, bytes(with_keys(bytes(content))))) == ""


def test_a_longer_file_and_another_graph_are_named(skeleton: Skeleton, program: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert f"has {SIZE + 1} bytes" in difference(skeleton, artifact(tmp_path / "a", program + b"x"))
    assert "sub/model.txt is another file" in difference(skeleton, artifact(tmp_path / "b", program, b"other"))


IDS = {"bos_id": (5000,), "stop_ids": (5016, 5032, (1 << 22) - 4)}  # the last across two chunks


@pytest.mark.parametrize(
    ("bos", "stops", "numbers"),
    [
        (1, (2, 3), (1, 2, 3, 3)),
        (None, (), (-1, -1, -1, -1)),
        (0, (2, 3, 4, 5), (0, 2, 3, 4)),
    ],
)
def test_ids_are_told_when_it_is_unpacked(
    skeleton: Skeleton,
    tmp_path: Path,
    bos: int | None,
    stops: tuple[int, ...],
    numbers: tuple[int, ...],
) -> None:
    telling = replace(skeleton, ids=IDS).telling(bos, stops)
    telling.unpack(tmp_path / "unpacked")
    content = (tmp_path / "unpacked").read_bytes()
    places = [place for positions in IDS.values() for place in positions]
    found = [int.from_bytes(content[at : at + 8], "little", signed=True) for at in places]
    assert tuple(found) == numbers
    filled = artifact(tmp_path, bytes(with_keys(content)))
    assert difference(telling, filled) == ""
    other = replace(skeleton, ids=IDS).telling(bos, (*stops[:2], 99))
    assert "belongs to no weight and is not the skeleton's" in difference(other, filled)


def test_where_ids_are_told_is_kept_with_it(tmp_path: Path) -> None:
    write_skeleton(tmp_path, backend="x", program=bytearray(64), slots=[], regions=[], proof={}, ids=IDS)
    assert read_skeleton(tmp_path).ids == IDS
