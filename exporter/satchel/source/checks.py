"""Checks that every source makes on what it hands out."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BadWeightsError


def require_finite(tensor: str, values: NDArray[np.float32]) -> None:
    """Raise BadWeightsError, naming the tensor and the first place, if any value is NaN or infinite."""
    finite = np.isfinite(values)
    if not finite.all():
        where = [int(i) for i in np.unravel_index(int(np.argmin(finite)), values.shape)]
        raise BadWeightsError(
            f"{tensor} holds {values[tuple(where)]} at {where}. A weight that is not a finite number makes every "
            "output meaningless; get the model again, or save it again from a run that did not overflow."
        )


def model_id_of(path: Path) -> str:
    """A file's or folder's name as a model id: lowercase letters, digits, dots and hyphens."""
    name = path.stem if path.suffix.lower() == ".gguf" else path.resolve().name
    return slug(name)


def slug(name: str) -> str:
    """`SmolLM2-135M_Instruct` -> `smollm2-135m-instruct`: what may stand in a package name on every platform."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"
