"""The versions that results depend on: Satchel's own, and those of the tools a program was lowered with."""

import ast
import hashlib
import platform
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from satchel.errors import InternalError, ToolMissingError


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
def locked(name: str) -> str:
    """sha256 over every package and version of a locked set (requirements/<name>.txt, a backend's with torch's)."""
    text = (resources.files("satchel.resources") / "locks.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)[name])


def found_here(*packages: str) -> dict[str, str]:
    """Package -> version as it is installed, for a key of what these packages computed."""
    return {package: metadata.version(package) for package in packages}


def processor() -> str:
    """This machine's processor with its features: what measured figures, and kernels compiled here, depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else [platform.processor()]
    wanted = ("model name", "flags", "Features")  # Features: as Linux on Arm calls the flags
    facts = dict.fromkeys(line.partition(":")[2].strip() for line in lines if line.startswith(wanted))
    return " ".join([platform.system(), platform.machine(), *(facts or lines)])


# --- our own code -------------------------------------------------------------------------------------------------

# How results are kept and shown, and what is said when there are none: not what they are.
_WITHOUT_EFFECT = frozenset({"satchel.cache", "satchel.console", "satchel.errors", "satchel.tools", "satchel.workshop"})


def source_hash(*roots: str) -> str:
    """sha256 over the Python files of these modules of satchel and of all that they import from it, at any depth and
    in any function: a change of code that a result is made with is a new key, and no other change is."""
    digest = hashlib.sha256()
    for name, source in sorted(_closure(roots).items()):
        digest.update(name.encode() + b"\0" + source + b"\0")
    return digest.hexdigest()


def _closure(roots: Iterable[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    pending = [f"satchel.{root}" for root in roots]
    while pending:
        name = pending.pop()
        if name in found or name in _WITHOUT_EFFECT:
            continue
        source = _source(name)
        if source is None:
            raise InternalError(f"{name} is no module, and a cache key names it.")
        found[name] = source
        pending += _imported(source)
    return found


@cache
def _imported(source: bytes) -> tuple[str, ...]:
    """Modules of satchel that a source names in an import; of `from package import x`, x too where it is a module."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith("satchel.") and _source(name) is not None)


def _source(module: str) -> bytes | None:
    """The source of a module or of a package's own file; None if there is no such module."""
    place = Path(__file__).parent.joinpath(*module.split(".")[1:])
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file.read_bytes()
    return None
