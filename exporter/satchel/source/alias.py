"""Built-in models: names that stand for one hashed file inside a Python package (resources/models.toml)."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any

from satchel.errors import InternalError

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Alias:
    """One built-in model. Hashes are lowercase hexadecimal SHA-256."""

    name: str
    description: str
    license: str  # SPDX identifier
    package: str
    version: str
    wheel_sha256: str
    member: str  # path of the .gguf file inside the wheel
    member_sha256: str

    def __post_init__(self) -> None:
        for field in ("wheel_sha256", "member_sha256"):
            if not re.fullmatch(r"[0-9a-f]{64}", getattr(self, field)):
                raise InternalError(f"models.toml: {field} of {self.name} is not a SHA-256 in lowercase hexadecimal")


def aliases() -> Mapping[str, Alias]:
    """Every built-in model by name, in the file's order."""
    text = (resources.files("satchel.resources") / "models.toml").read_text(encoding="utf-8")
    return {name: _alias(name, entry) for name, entry in tomllib.loads(text).items()}


def _alias(name: str, entry: dict[str, Any]) -> Alias:
    expected = {field.name for field in fields(Alias)} - {"name"}
    if entry.keys() != expected:
        raise InternalError(f"models.toml: {name} must have exactly the keys {', '.join(sorted(expected))}")
    return Alias(name=name, **entry)
