"""What a finished Android library must be, checked on the file that is published."""

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from satchel.errors import InternalError
from satchel.package.aar import METADATA, MIN_SDK, min_sdk, namespace_of, permissions
from satchel.package.classfile import class_info, module_version

REQUIRED = ("AndroidManifest.xml", "R.txt", "classes.jar", "proguard.txt", METADATA)

# A Kotlin compiler reads metadata up to one minor version ahead of its own: an app on Kotlin 2.2 reads 2.3.
NEWEST_KOTLIN_METADATA = (2, 3)
NEWEST_CLASS_FILE = 55  # Java 11: inline functions can't be inlined into an app that targets something older
PAGE = 16 * 1024  # Android 15 devices with 16 KB pages refuse libraries aligned to less


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
        for name in names:
            if name.startswith("jni/") and name.endswith(".so"):
                problems += [f"{name} {problem}" for problem in _alignment_problems(archive.read(name))]
        if "classes.jar" in names:
            rules = archive.read("proguard.txt").decode() if "proguard.txt" in names else ""
            problems += _jar_problems(archive.read("classes.jar"), rules)
    _raise(path, problems)


def check_jar(path: Path, budget: Budget) -> None:
    """The same for a plain jar: its classes and its size."""
    _raise(path, [*_over_budget(path, budget), *_class_problems(path.read_bytes())])


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
    yield from _class_problems(jar)
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


def _class_problems(jar: bytes) -> Iterator[str]:
    with zipfile.ZipFile(io.BytesIO(jar)) as archive:
        for name in archive.namelist():
            if name.endswith(".class"):
                info = class_info(archive.read(name))
                if info.major > NEWEST_CLASS_FILE:
                    yield f"{name} is class file version {info.major}, newer than {NEWEST_CLASS_FILE} (Java 11)"
                if info.kotlin is not None and info.kotlin[:2] > NEWEST_KOTLIN_METADATA:
                    yield f"{name} has Kotlin metadata {_dotted(info.kotlin)}, which Kotlin 2.2 can't read"
            elif name.endswith(".kotlin_module"):
                version = module_version(archive.read(name))
                if version[:2] > NEWEST_KOTLIN_METADATA:
                    yield f"{name} has Kotlin metadata {_dotted(version)}, which Kotlin 2.2 can't read"


def _alignment_problems(library: bytes) -> Iterator[str]:
    """Every loadable segment of a 64-bit little-endian ELF file must be aligned to 16 KB (ELF-64, program header)."""
    if library[:6] != b"\x7fELF\x02\x01":
        return  # 32-bit ABIs have 4 KB pages on every device
    (table,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    for index in range(count):
        (kind,) = struct.unpack_from("<I", library, table + index * size)
        (alignment,) = struct.unpack_from("<Q", library, table + index * size + 48)
        if kind == 1 and alignment % PAGE:
            yield f"has a segment aligned to {alignment} bytes, not to {PAGE}"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
