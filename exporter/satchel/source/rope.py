"""The rotary embedding's settings in one form, transformers 5's `rope_parameters`, whichever form config.json has.

Older files have `rope_theta` with `rope_scaling` (and Gemma `rope_local_base_freq`); newer ones one table, or one for
each kind of layer.
"""

from collections.abc import Mapping
from typing import Any

from satchel.errors import CorruptModelError, UnsupportedModelError
from satchel.source.architectures import FULL, SLIDING, Architecture
from satchel.source.values import number

# Rotary scalings whose frequencies are fixed numbers, with what each must say and what it may. The others depend on the
# length of the text.
STATIC_ROPE: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor"), ()),
    "yarn": (("factor",), ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")),
}
_FROM_SHORTER = ("llama3", "yarn")  # scaled from the length that the model was first trained for
_ORIGINAL = "original_max_position_embeddings"


def rope_parameters(kind: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_parameters` of a config, with every value that its frequencies follow from.

    Raises CorruptModelError or UnsupportedModelError, as `canonical_config` does.
    """
    scaling, parameters = table(config, "rope_scaling"), table(config, "rope_parameters")
    if kind.rope_local_theta is None:
        return _one({"rope_theta": config.get("rope_theta", kind.rope_theta), **(scaling or parameters)}, config)
    full = {**table(parameters, FULL), **scaling}
    local = table(parameters, SLIDING)
    return {
        FULL: _one({"rope_theta": config.get("rope_theta", kind.rope_theta), **full}, config),
        SLIDING: _one({"rope_theta": config.get("rope_local_base_freq", kind.rope_local_theta), **local}, config),
    }


def table(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A table of the config, empty if it has none. Raises CorruptModelError if it is something else."""
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise CorruptModelError(f"{name} in config.json is {found!r}, not a table. Get the model again.")
    return found


def rope_type(entry: Mapping[str, Any]) -> str:
    """The kind of scaling that a table asks for, under its new or its old name."""
    return str(entry.get("rope_type") or entry.get("type") or "default")


def _one(entry: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """One kind of layer's parameters."""
    kind = rope_type(entry)
    if kind not in STATIC_ROPE:
        raise UnsupportedModelError(
            f"the model scales its rotary embedding by {kind!r}, which depends on the length of the text; these can be "
            f"converted: {', '.join(sorted(STATIC_ROPE))}."
        )
    if nested := [name for name, value in entry.items() if isinstance(value, dict)]:
        raise UnsupportedModelError(
            f"config.json gives rope parameters for {nested[0]} alone; this architecture has the same for every layer."
        )
    share = entry.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if share is not None and share != 1:
        raise UnsupportedModelError(f"the model rotates only a part of each head (partial_rotary_factor {share!r}).")
    required, optional = STATIC_ROPE[kind]
    found: dict[str, Any] = {"rope_type": kind, "rope_theta": number("rope_theta", entry["rope_theta"])}
    if found["rope_theta"] <= 0:
        raise CorruptModelError(f"config.json gives {entry['rope_theta']!r} as rope_theta; it must be above 0.")
    for name in required:
        if entry.get(name) is None:
            raise CorruptModelError(f"the rotary scaling {kind!r} in config.json lacks {name}. Get the model again.")
    for name in (*required, *optional):
        value = entry.get(name)
        if value is not None:
            found[name] = value if isinstance(value, bool) else number(name, value)
    if kind in _FROM_SHORTER:
        length = config.get(_ORIGINAL) or entry.get(_ORIGINAL) or config["max_position_embeddings"]
        if type(length) is not int or length <= 0:
            raise CorruptModelError(f"config.json gives {length!r} as {_ORIGINAL}; a positive whole number is needed.")
        found[_ORIGINAL] = length
    return found
