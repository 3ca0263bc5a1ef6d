"""The versions that results depend on: Satchel's own, and those of the tools a program was lowered with."""

import hashlib
import platform
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata, resources

from satchel.errors import ToolMissingError


@cache
def pinned(backend: str) -> Mapping[str, str]:
    """Package -> version that this backend is lowered with. Known without having the packages."""
    text = (resources.files("satchel.resources") / "pins.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)[backend])


def require_pinned(backend: str) -> None:
    """Raises ToolMissingError if a package is not installed or has another version than the pinned one."""
    for package, wanted in pinned(backend).items():
        try:
            found = metadata.version(package).split("+")[0]  # a CPU build of torch is the same version
        except metadata.PackageNotFoundError:
            found = "none"
        if found != wanted:
            raise ToolMissingError(
                f"Lowering and running for {backend} needs {package} {wanted}, and {found} is installed. "
                "Install the locked requirements: make venv"
            )


def installed() -> dict[str, str]:
    """Name -> version of what every build runs on, whatever the backend. For the report."""
    packages = {name: metadata.version(name) for name in ("numpy", "regex", "tokenizers")}
    return {"python": platform.python_version(), **packages}


@cache
def source_hash(*packages: str) -> str:
    """sha256 over the Python files of these subpackages of satchel: a change of our own code is a new key too."""
    digest = hashlib.sha256()
    root = resources.files("satchel")
    for package in packages:
        target = root / package
        files = [target] if target.is_file() else [entry for entry in target.iterdir() if entry.name.endswith(".py")]
        for file in sorted(files, key=lambda entry: entry.name):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
