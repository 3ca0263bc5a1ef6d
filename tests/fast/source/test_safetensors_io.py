"""Our reader and writer against the safetensors library, and what a damaged file gives."""

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from satchel.errors import BadWeightsError, CorruptModelError
from satchel.source.safetensors_io import SafetensorsFile, SafetensorsWriter

_VALUES = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    stored = {
        "f32": _VALUES,
        "f16": _VALUES.astype(np.float16),
        "bf16": _VALUES.astype(ml_dtypes.bfloat16),
        "codes": np.arange(-8, 8, dtype=np.int8),
        "empty": np.zeros((0, 3), np.float32),
    }
    save_file(stored, tmp_path / "a.safetensors", metadata={"format": "pt"})
    file = SafetensorsFile(tmp_path / "a.safetensors")
    assert file.arrays.keys() == stored.keys()
    for name in ("f32", "f16", "bf16"):
        np.testing.assert_array_equal(file.float32(name), stored[name].astype(np.float32))
        assert file.float32(name).flags.writeable
    np.testing.assert_array_equal(file.read("codes"), stored["codes"])
    assert file.read("empty").shape == (0, 3)
    with pytest.raises(BadWeightsError, match="missing"):
        file.read("missing")


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    with SafetensorsWriter(path, {"odd": ("I8", (3,)), "values": ("F32", (5, 7))}) as writer:
        writer.write("odd", np.array([-1, 0, 1], np.int8))
        writer.write("values", _VALUES)
    loaded = load_file(path)
    np.testing.assert_array_equal(loaded["odd"], [-1, 0, 1])
    np.testing.assert_array_equal(loaded["values"], _VALUES)
    assert writer.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"a": _VALUES, "b": _VALUES}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptModelError, match=r"c\.safetensors is truncated or damaged"):
            SafetensorsFile(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"F32"', b'"Q32"'),
        (b"[0,140]", b"[0,139]"),
        (b"[5,7]", b"[5,9]"),
        (b'{"a"', b'["a"'),
        (b"[140,280]", b"[100,240]"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "d.safetensors"
    save_file({"a": _VALUES, "b": _VALUES}, path)
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new, 1))
    with pytest.raises(CorruptModelError):
        SafetensorsFile(path)
