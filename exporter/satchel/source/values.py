"""Values of a config file, each of the kind that it must be, or refused with its name."""

from typing import Any

import numpy as np

from satchel.errors import CorruptModelError


def number(name: str, value: Any) -> float:
    """A number of config.json as the shortest decimal of its float32, which is all that a program keeps of it.

    GGUF stores float32: 1e-05 comes back as 9.999999747378752e-06, and must be the same setting.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 3e38:
        raise CorruptModelError(f"config.json gives {shown(value)} as {name}; a number is needed. Get the model again.")
    return float(str(np.float32(value)))


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number, at least `least`."""
    if type(value) is not int or value < least:
        wanted = "a positive whole number" if least == 1 else "a whole number"
        raise CorruptModelError(f"config.json gives {shown(value)} as {name}; {wanted} is needed. Get the model again.")
    return value


def switch(name: str, value: Any) -> bool:
    """Yes or no; null is no."""
    if value is None or isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise CorruptModelError(f"config.json gives {shown(value)} as {name}; true or false is needed.")


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
