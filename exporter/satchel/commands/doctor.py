"""What a build needs from this machine: which of it is here, and the one command that installs what is not."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from satchel.cache import Cache
from satchel.errors import SatchelError, ToolMissingError
from satchel.tools import Tools
from satchel.versions import pinned

DISK_NEEDED = 3 * 10**9  # bytes: skeleton, float reference, bundle and libraries of the default model


@dataclass(frozen=True)
class Check:
    """One thing. `found`: its version or size, empty if it is missing. `fix`: what to do about it."""

    name: str
    found: str
    needed_for: str
    fix: str = ""


def examine(tools: Tools | None = None, cache: Cache | None = None) -> list[Check]:
    """Look at everything that `satchel build` needs. Starts java, mvn and the like, imports nothing heavy."""
    tools = tools or Tools()
    cache = cache or Cache.default()
    python = ".".join(map(str, sys.version_info[:3]))
    packages = {**pinned("coreml"), **pinned("executorch"), **pinned("litert")}
    return [
        Check("Python", python, "everything"),
        *(_package(name, version) for name, version in sorted(packages.items())),
        _tool("Java", "the Android libraries", lambda: tools.java.version),
        _tool("Maven", "the Android libraries", lambda: str(tools.maven)),
        _tool("C++ compiler", "validate --target jvm", lambda: str(tools.cxx)),
        _tool("cmake", "validate --target jvm", lambda: str(tools.cmake)),
        _tool("ninja", "validate --target jvm", lambda: str(tools.ninja)),
        _cache_folder(cache),
        _disk(cache),
    ]


def is_ready(checks: Sequence[Check]) -> bool:
    return all(check.found for check in checks)


def require(checks: Sequence[Check]) -> None:
    """Raise ToolMissingError with every missing thing and what to do about it."""
    missing = [check for check in checks if not check.found]
    if missing:
        raise ToolMissingError(
            "\n".join(["This machine can't build everything yet.", *(f"- {c.fix}" for c in missing)])
        )


def _package(name: str, wanted: str) -> Check:
    """A package that lowering pins; another version counts as missing."""
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        found = ""
    right = found.split("+")[0] == wanted  # a CPU build of torch is the same version
    return Check(
        f"{name} {wanted}",
        found if right else "",
        "lowering and validating",
        f"{name} {wanted} is needed, and {found or 'none'} is installed. Install the locked requirements: make venv",
    )


def _tool(name: str, needed_for: str, find: Callable[[], str]) -> Check:
    try:
        return Check(name, find(), needed_for)
    except SatchelError as error:
        return Check(name, "", needed_for, str(error))


def _cache_folder(cache: Cache) -> Check:
    fix = f"The cache folder {cache.root} can't be written. Set SATCHEL_CACHE to a folder that can."
    try:
        cache.root.mkdir(parents=True, exist_ok=True)
        probe = cache.root / ".doctor"
        probe.touch()
        probe.unlink()
    except OSError:
        return Check("cache", "", "everything", fix)
    return Check("cache", str(cache.root), "everything")


def _disk(cache: Cache) -> Check:
    folder = next(path for path in (cache.root, *cache.root.parents, Path.cwd()) if path.exists())
    free = shutil.disk_usage(folder).free
    fix = f"Only {free / 1e9:.1f} GB are free at {folder}; a build needs {DISK_NEEDED / 1e9:.0f} GB. Make room."
    return Check("disk", f"{free / 1e9:.0f} GB free" if free >= DISK_NEEDED else "", "everything", fix)
