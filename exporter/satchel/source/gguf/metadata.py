"""The numbers of a GGUF file's metadata, each of the type and within the bounds that it must have.

A converter writes what the format asks for; anybody may write something else. Nothing is computed from a number before
it was asked for here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from satchel.errors import CorruptModelError, UnsupportedModelError

_LARGEST_SIZE = 1 << 31


@dataclass(frozen=True)
class Metadata:
    """All entries of `fields`; the model's own lie under `architecture`, which the methods put before their key."""

    file_name: str
    architecture: str
    fields: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.fields

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the model's own entries, as they stand in the file."""
        start = f"{self.architecture}."
        return tuple(name.removeprefix(start) for name in self.fields if name.startswith(start))

    def value(self, key: str) -> Any:
        return self.fields.get(f"{self.architecture}.{key}")

    def size(self, key: str, default: int | None = None) -> int:
        """A positive whole number. Raises UnsupportedModelError if each layer has its own, CorruptModelError if it is
        missing (and has no default) or no size."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if isinstance(value, list) and value:
            if any(one != value[0] for one in value):
                raise UnsupportedModelError(
                    f"{self.file_name} has another {self.architecture}.{key} in each layer, which can't be converted."
                )
            value = value[0]
        if type(value) is not int or not 0 < value < _LARGEST_SIZE:
            raise self._unusable(key, value, "a positive whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive finite number. GGUF keeps a float32; this is the shortest decimal that rounds to the same one.

        1e-05 comes back from the file as 9.999999747378752e-06. The shortest one is what the model's own config.json
        says, so both sources of one model give the same config (and skeleton); the runtime rounds it to the same
        float32 again.
        """
        value = self.value(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value < np.finfo(np.float32).max:
            raise self._unusable(key, value, "a positive number")
        return float(str(np.float32(value)))

    def _unusable(self, key: str, value: Any, needed: str) -> CorruptModelError:
        entry = f"metadata entry {self.architecture}.{key}"
        found = f"has no {entry}" if value is None else f"gives {_shown(value)} as {entry}"
        return CorruptModelError(f"{self.file_name} {found}; {needed} is needed. Download it again.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
