"""Satchel's .pte through its C++ host engine: the C ABI that JNI calls too, here called from Python by ctypes."""

import ctypes
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peers.job import Job

_MAP_THE_FILE = 1  # load_mode of satchel_et.h


def about() -> str:
    return f"ExecuTorch {version('executorch')}'s libraries, Satchel's host engine"


def open_engine(job: Job) -> "HostEngine":
    return HostEngine(Path(job.libraries), Path(job.file), job.threads)


class HostEngine:
    """An Engine over libsatchel_et. Its process must not hold another copy of ExecuTorch."""

    def __init__(self, libraries: Path, program: Path, threads: int) -> None:
        ctypes.CDLL(str(libraries / "libsatchel_et_kernels.so"))
        self._library = ctypes.CDLL(str(libraries / "libsatchel_et.so"))
        self._module = ctypes.c_void_p()
        self._check(self._library.satchel_et_open(str(program).encode(), _MAP_THE_FILE, threads, self._out()))
        self.vocab_size = self._constant("get_vocab_size")
        self.context_length = self._constant("get_max_context_len")
        self.prefill_chunk = self._constant("get_max_seq_len")
        self._logits = np.empty(self.vocab_size, np.float32)

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        """The logits are overwritten by the next call."""
        ids = np.ascontiguousarray(tokens, np.int64)
        self._check(
            self._library.satchel_et_forward(
                self._module,
                ids.ctypes.data_as(ctypes.c_void_p),
                ctypes.c_int32(ids.size),
                ctypes.c_int64(position),
                self._logits.ctypes.data_as(ctypes.c_void_p),
                ctypes.c_size_t(self._logits.size),
            )
        )
        return self._logits

    def close(self) -> None:
        self._check(self._library.satchel_et_close(self._module))

    def _constant(self, method: str) -> int:
        self._check(self._library.satchel_et_execute(self._module, method.encode(), None, ctypes.c_size_t(0)))
        value = _Value()
        self._check(self._library.satchel_et_output(self._module, ctypes.c_size_t(0), ctypes.byref(value)))
        return int(value.integer)

    def _out(self) -> object:
        return ctypes.byref(self._module)

    @staticmethod
    def _check(error: int) -> None:
        if error:
            raise RuntimeError(f"The host engine failed with ExecuTorch's error {error:#x}")


class _Value(ctypes.Structure):
    """satchel_et_value of satchel_et.h."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("scalar_type", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("sizes", ctypes.c_int64 * 8),
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("integer", ctypes.c_int64),
        ("real", ctypes.c_double),
    )
