"""What operations work on: arrays in the type they are computed in, rounded to the type they are declared with.

Floats are computed in float32, whole numbers in int32; a float16 is a float32 that has been rounded to one, infinity
above 65519 included.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.formats.mlpackage_program import ValueType

Array = NDArray[Any]
Result = Array | tuple[Array, ...]
FLOATS = ("float16", "float32")
_INTEGERS: Mapping[str, Any] = {
    "int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16, "int32": np.int32,
}  # fmt: skip


def to_half_and_back(array: Array) -> Array:
    """Every float32 rounded to the nearest float16, ties to even; what is too large becomes infinity."""
    return array.astype(np.float16).astype(np.float32)


def computed(array: Array) -> Array:
    """An array of any type in the type that it is computed in; text stays as it is."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    return array.astype(np.int32, copy=False) if array.dtype.kind in "iu" else array


def declared(array: Array, dtype: str, exact: bool) -> Array:
    """A result as a value of its declared type. exact: floats are not rounded. Raises ValueError for other types."""
    if dtype == "float16":
        wide = array.astype(np.float32, copy=False)
        return wide if exact else to_half_and_back(wide)
    if dtype == "float32":
        return array.astype(np.float32, copy=False)
    if dtype == "bool":
        return array.astype(np.bool_, copy=False)
    if dtype not in _INTEGERS:
        raise ValueError(f"values of type {dtype} can't be computed with")
    if array.dtype == np.int32 and dtype == "int32":
        return array
    return array.astype(_INTEGERS[dtype]).astype(np.int32)  # out of range wraps around


def fits(shape: tuple[int, ...], type_: ValueType) -> bool:
    """True if an array of this shape is one of this type, whose unknown dimensions may be anything."""
    return len(shape) == len(type_.shape) and all(
        wanted is None or size == wanted for size, wanted in zip(shape, type_.shape, strict=True)
    )


class Inputs:
    """The inputs of one operation by name, and how its results are rounded.

    half: the operation's result is a float16 and is rounded to one.
    """

    def __init__(self, values: Mapping[str, Any], half: bool, in_place: bool = False) -> None:
        self._values = values
        self.half = half
        self.in_place = in_place  # slice_update may change `x` itself

    def __getitem__(self, name: str) -> Array:
        found: Array = self._values[name]
        return found

    def all(self, name: str) -> list[Array]:
        """An input that takes several values."""
        return list(self._values[name])

    def get(self, name: str) -> Array | None:
        return self._values.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def round(self, array: Array) -> None:
        """In place: an intermediate result, which a device keeps in the operation's own type."""
        if self.half:
            array[...] = array.astype(np.float16)

    def integer(self, name: str, default: int) -> int:
        return int(self._values.get(name, default))

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self._values.get(name, default))

    def number(self, name: str, default: float) -> np.float32:
        """A float. A default is a value of the operation's type: 1e-12 is zero in float16."""
        if name in self._values:
            return np.float32(self._values[name])
        return np.float32(np.float16(default)) if self.half else np.float32(default)

    def text(self, name: str, default: str) -> str:
        return str(self._values.get(name, default))

    def integers(self, name: str, default: list[int] | None = None) -> list[int]:
        """A list of whole numbers. Raises KeyError if it is missing and has no default."""
        if default is not None and name not in self._values:
            return default
        return [int(value) for value in np.asarray(self._values[name]).reshape(-1)]


Function = Callable[[Inputs], Result]
