"""Zip archives whose bytes depend on their contents alone: sorted entries, one fixed time, no extra fields."""

import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from satchel.errors import InternalError
from satchel.files import files_below

# The time Gradle gives its own reproducible archives; DOS time has no zone, and January 1980 underflows west of
# Greenwich in some readers.
_TIME = (1980, 2, 1, 0, 0, 0)
_JAR_MANIFEST = "META-INF/MANIFEST.MF"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One file of an archive: `content` is the bytes, or a file that is streamed in. `stored`: not compressed."""

    name: str
    content: bytes | Path
    stored: bool = False


def write_archive(path: Path, entries: Iterable[Entry]) -> None:
    """Write the archive to `path`; big files pass through 1 MiB at a time. A name given twice is an InternalError."""
    by_name: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in by_name:
            raise InternalError(f"{path.name} would hold {entry.name} twice.")
        by_name[entry.name] = entry
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(by_name, key=lambda name: (name != _JAR_MANIFEST, name)):  # readers of jars expect it first
            _write_entry(archive, by_name[name])


def jar_manifest() -> Entry:
    """The smallest manifest a jar can have: nothing in it about the machine that made it."""
    return Entry(_JAR_MANIFEST, b"Manifest-Version: 1.0\r\n\r\n")


def folder_entries(folder: Path, prefix: str = "") -> list[Entry]:
    """Every file under `folder`, named by its path in it. A folder that does not exist has none."""
    files = files_below(folder) if folder.is_dir() else []
    return [Entry(prefix + path.relative_to(folder).as_posix(), path) for path in files]


def _write_entry(archive: zipfile.ZipFile, entry: Entry) -> None:
    info = zipfile.ZipInfo(entry.name, _TIME)
    info.create_system = 3  # Unix, on every platform
    info.external_attr = 0o100644 << 16
    info.compress_type = zipfile.ZIP_STORED if entry.stored else zipfile.ZIP_DEFLATED
    if isinstance(entry.content, bytes):
        archive.writestr(info, entry.content, compresslevel=None if entry.stored else 9)
        return
    info.file_size = entry.content.stat().st_size  # lets zipfile choose zip64 for files over 4 GB
    with entry.content.open("rb") as source, archive.open(info, "w") as target:
        shutil.copyfileobj(source, target, _CHUNK)
