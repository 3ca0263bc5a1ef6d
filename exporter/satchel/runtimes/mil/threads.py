"""How many threads numpy's matrix products may use.

OpenBLAS's threads wait for each other busily: on a machine that has other work, two of them take far longer than one,
and evaluation consists of many small products. numpy has no setting for it but an environment variable that is read
once, so this asks the library inside numpy's wheels; where numpy uses another one, nothing is changed.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Inside, matrix products of numpy use `count` threads."""
    library = _openblas()
    if library is None:
        yield
        return
    get, set_to = library
    before = get()
    set_to(count)
    try:
        yield
    finally:
        set_to(before)


@cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """(get, set) of the number of threads; None if numpy has no OpenBLAS of its own."""
    for file in Path(np.__file__).parent.with_name("numpy.libs").glob("libscipy_openblas*"):
        library = ctypes.CDLL(str(file))  # the one that is loaded already
        for suffix in ("64_", ""):
            if hasattr(library, f"scipy_openblas_set_num_threads{suffix}"):
                return (
                    getattr(library, f"scipy_openblas_get_num_threads{suffix}"),
                    getattr(library, f"scipy_openblas_set_num_threads{suffix}"),
                )
    return None
