"""What a source recommends for sampling: generation_config.json."""

from collections.abc import Mapping
from typing import Any

from satchel.errors import CorruptModelError
from satchel.source.values import shown

# What a source may recommend, with the least and the largest value that devices take.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_k": (0, 1 << 31),
    "top_p": (1e-6, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.1, 10.0),
}


def sampling_defaults(generation: Mapping[str, Any]) -> dict[str, float | int]:
    """What generation_config.json recommends: `temperature` 0 (greedy) unless it samples, then all that it says.

    top_k 0 is every token and is left out, as everything is that changes nothing. Raises CorruptModelError if a value
    is no number or out of bounds.
    """
    found: dict[str, float | int] = {}
    for name, (least, most) in _BOUNDS.items():
        value = generation.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if name == "top_k" else int | float):
            raise CorruptModelError(f"generation_config.json gives {shown(value)} as {name}; a number is needed.")
        if not least <= value <= most:
            raise CorruptModelError(
                f"generation_config.json gives {shown(value)} as {name}; it must be {least:g} to {most:g}."
            )
        found[name] = value if name == "top_k" else float(value)
    neutral = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
    kept = {name: value for name, value in found.items() if value != neutral.get(name)}
    if not generation.get("do_sample"):
        # A penalty counts for greedy answers too; the rest shapes what is drawn from.
        return {"temperature": 0.0, **{name: kept[name] for name in ("repetition_penalty",) if name in kept}}
    return {"temperature": 1.0, **kept}
