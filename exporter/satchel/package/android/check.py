"""What a finished Android library must be, checked on the file that is published."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from satchel.errors import InternalError
from satchel.package.android.aar import METADATA, MIN_SDK, min_sdk, namespace_of, permissions

REQUIRED = ("AndroidManifest.xml", "R.txt", "classes.jar", "proguard.txt", METADATA)


@dataclass(frozen=True)
class Budget:
    """The most bytes a library may have, and why."""

    bytes: int
    why: str


def check_aar(path: Path, budget: Budget) -> None:
    """Raise InternalError naming every way in which the AAR at `path` is not fit to be published."""
    problems = [*_over_budget(path, budget)]
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        problems += [f"it has no {name}" for name in REQUIRED if name not in names]
        if "AndroidManifest.xml" in names:
            problems += _manifest_problems(archive.read("AndroidManifest.xml"))
        if "classes.jar" in names:
            rules = archive.read("proguard.txt").decode() if "proguard.txt" in names else ""
            problems += _jar_problems(archive.read("classes.jar"), rules)
    _raise(path, problems)


def check_jar(path: Path, budget: Budget) -> None:
    """The same for a plain jar: its size."""
    _raise(path, list(_over_budget(path, budget)))


def _raise(path: Path, problems: list[str]) -> None:
    if problems:
        raise InternalError(f"{path.name} can't be published: {'; '.join(problems)}.")


def _over_budget(path: Path, budget: Budget) -> Iterator[str]:
    size = path.stat().st_size
    if size > budget.bytes:
        yield f"it has {size:,} bytes, more than {budget.bytes:,} ({budget.why})"


def _manifest_problems(manifest: bytes) -> Iterator[str]:
    if not namespace_of(manifest):
        yield "its AndroidManifest.xml has no namespace"
    asked = permissions(manifest)
    if asked:  # the app's manifest, and its page in a store, would have them too
        yield f"it asks for {', '.join(asked)}"
    minimum = min_sdk(manifest)
    if minimum is None or minimum < MIN_SDK:
        yield f"its minSdk is {minimum}, the runtime needs {MIN_SDK}"


def _jar_problems(jar: bytes, rules: str) -> Iterator[str]:
    with zipfile.ZipFile(io.BytesIO(jar)) as archive:
        names = set(archive.namelist())
        if any(name.endswith(".class") for name in names) and "-keep" not in rules:
            yield "it has classes but its proguard.txt keeps nothing"
        for service in sorted(name for name in names if name.startswith("META-INF/services/")):
            for implementation in archive.read(service).decode().split():
                if f"{implementation.replace('.', '/')}.class" not in names:
                    yield f"{service} names {implementation}, which is not in classes.jar"
                if implementation not in rules:
                    yield f"its proguard.txt does not keep {implementation}, which is found by name"
