"""Runs a program through the host engine's C ABI: c_abi.py LIBRARIES PROGRAM FOLDER, in a process that has no other
copy of the runtime's libraries. FOLDER/in.npz says what to feed, FOLDER/out.npy gets the logits.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def run_c_abi(native: Path, program: Path, folder: Path) -> None:
    """Feeds steps (start, count) of `tokens` and saves the logits float32 [steps, vocabulary]."""
    data = np.load(folder / "in.npz")
    vocabulary = int(data["vocabulary"])
    ctypes.CDLL(str(native / "libsatchel_et_kernels.so"))
    library = ctypes.CDLL(str(native / "libsatchel_et.so"))
    module = ctypes.c_void_p()
    assert library.satchel_et_open(str(program).encode(), 1, 1, ctypes.byref(module)) == 0

    def forward(tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        ids, logits = np.ascontiguousarray(tokens, np.int64), np.empty(vocabulary, np.float32)
        error = library.satchel_et_forward(
            module,
            ids.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int32(ids.size),
            ctypes.c_int64(position),
            logits.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(vocabulary),
        )
        assert error == 0, hex(error)
        return logits

    steps = [(int(start), int(count)) for start, count in data["steps"]]
    logits = [forward(data["tokens"][start : start + count], start) for start, count in steps]
    np.save(folder / "out.npy", np.stack(logits))
    assert library.satchel_et_close(module) == 0


if __name__ == "__main__":
    run_c_abi(*map(Path, sys.argv[1:]))
