"""Recipes: how a model is quantized, how long its context is, and how true it must stay. One TOML file each.

A recipe is checked completely when it is read: an unknown key, a missing one or a value outside its range is refused
before any work starts.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from satchel.errors import RecipeError
from satchel.quantize.plan import TensorPlan

DEFAULT_RECIPE = "int4"
INT4_GROUP = 32  # the one group size that every runtime's fast int4 kernel takes
_SCHEMES = ("int4", "int8", "float")


@dataclass(frozen=True)
class Gates:
    """What one backend must reach against the float model: mean KL at most, top-1 agreement (0..1) at least."""

    kl_mean_max: float
    top1_min: float | None = None

    def __post_init__(self) -> None:
        if not self.kl_mean_max > 0:
            raise RecipeError(f"kl_mean_max is {self.kl_mean_max}; it must be greater than 0")
        if self.top1_min is not None and not 0 < self.top1_min <= 1:
            raise RecipeError(f"top1_min is {self.top1_min}; it must be greater than 0 and at most 1")


def gate_limits(gates: Gates | None) -> dict[str, float]:
    """The behaviour gates of a recipe as the manifest names them."""
    if gates is None:
        return {}
    top1 = {} if gates.top1_min is None else {"top1": gates.top1_min}
    return {"kl_mean": gates.kl_mean_max, **top1}


@dataclass(frozen=True)
class Recipe:
    """One recipe. `next`: the recipe to try when a gate fails. Lengths are in tokens."""

    name: str
    description: str
    context_length: int
    prefill_chunk: int
    next: str | None
    linear: TensorPlan
    embedding: TensorPlan
    head: TensorPlan
    gates: Mapping[str, Gates]  # backend -> gates

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise RecipeError(f"the name {self.name!r} must be lowercase letters, digits and single hyphens")
        if self.context_length < 1:
            raise RecipeError(f"context_length is {self.context_length}; it must be at least 1")
        if not 1 <= self.prefill_chunk <= self.context_length:
            raise RecipeError(
                f"prefill_chunk is {self.prefill_chunk}; it must be 1 to context_length ({self.context_length})"
            )
        for part in ("embedding", "head"):
            if getattr(self, part).scheme == "int4":
                raise RecipeError(f"the {part} can be int8 or float, not int4: four bits there cost too much fidelity")


def recipes() -> Mapping[str, Recipe]:
    """The built-in recipes by name, the default one first."""
    found = {recipe.name: recipe for recipe in _built_in()}
    return {DEFAULT_RECIPE: found.pop(DEFAULT_RECIPE), **dict(sorted(found.items()))}


def load_recipe(name_or_file: str) -> Recipe:
    """A built-in recipe by name, or one from a .toml file. Raises RecipeError."""
    built_in = recipes()
    if name_or_file in built_in:
        return built_in[name_or_file]
    path = Path(name_or_file)
    if path.suffix != ".toml" or not path.is_file():
        raise RecipeError(
            f"There is no recipe {name_or_file!r}. Recipes: {', '.join(built_in)}; or give the path of a .toml file."
        )
    return _read(path)


def _built_in() -> Iterator[Recipe]:
    for entry in (resources.files("satchel.resources") / "recipes").iterdir():
        if entry.name.endswith(".toml"):
            yield _read(entry)


def _read(file: Traversable) -> Recipe:
    try:
        return _recipe(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{file.name} is not a TOML file: {problem}") from problem
    except RecipeError as problem:
        raise RecipeError(f"{file.name}: {problem}") from problem


def _recipe(table: dict[str, Any]) -> Recipe:
    top = _checked(table, "the recipe", _TOP_KEYS, optional=("next",))
    weights = _checked(top["weights"], "[weights]", {"linear": dict, "embedding": dict, "head": dict})
    return Recipe(
        name=top["name"],
        description=top["description"],
        context_length=top["context_length"],
        prefill_chunk=top["prefill_chunk"],
        next=top.get("next"),
        linear=_tensor_plan(weights["linear"], "[weights.linear]"),
        embedding=_tensor_plan(weights["embedding"], "[weights.embedding]"),
        head=_tensor_plan(weights["head"], "[weights.head]"),
        gates={backend: _gates(entry, f"[gates.{backend}]") for backend, entry in top["gates"].items()},
    )


_TOP_KEYS: Mapping[str, type] = {
    "name": str,
    "description": str,
    "context_length": int,
    "prefill_chunk": int,
    "next": str,
    "weights": dict,
    "gates": dict,
}


def _tensor_plan(entry: Any, where: str) -> TensorPlan:
    scheme = entry.get("scheme") if isinstance(entry, dict) else None
    if scheme not in _SCHEMES:
        raise RecipeError(f"scheme in {where} is {scheme!r}; it must be one of {', '.join(_SCHEMES)}")
    if scheme != "int4":
        _checked(entry, where, {"scheme": str})
        return TensorPlan(scheme)
    checked = _checked(entry, where, {"scheme": str, "group": int, "offset": bool})
    if checked["group"] != INT4_GROUP:
        raise RecipeError(
            f"group in {where} is {checked['group']}; the runtimes' int4 kernels agree on {INT4_GROUP} and nothing else"
        )
    return TensorPlan("int4", checked["group"], checked["offset"])


def _gates(entry: Any, where: str) -> Gates:
    checked = _checked(entry, where, {"kl_mean_max": float, "top1_min": float}, optional=("top1_min",))
    return Gates(**checked)


def _checked(entry: Any, where: str, keys: Mapping[str, type], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The table itself if it has exactly these keys (but for optional ones) with values of these types."""
    if not isinstance(entry, dict):
        raise RecipeError(f"{where} must be a table")
    for key in entry:
        if key not in keys:
            raise RecipeError(f"{where} has the unknown key {key!r}; known keys: {', '.join(keys)}")
    for key, kind in keys.items():
        if key not in entry:
            if key in optional:
                continue
            raise RecipeError(f"{where} lacks the key {key!r}")
        if type(entry[key]) is not kind:  # exact: TOML's true is no integer here
            raise RecipeError(f"{key} in {where} is {entry[key]!r}; it must be a {kind.__name__}")
    return entry
