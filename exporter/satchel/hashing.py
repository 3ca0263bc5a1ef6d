"""The one hash that names files everywhere: SHA-256 as lowercase hexadecimal."""

import hashlib
from pathlib import Path

from satchel.files import files_below


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(path: Path) -> str:
    """A file's SHA-256; a folder's is that of the lines `<sha256>  <path inside>` of its files, sorted by path."""
    if not path.is_dir():
        return file_sha256(path)
    lines = [f"{file_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files_below(path)]
    return hashlib.sha256("".join(sorted(lines, key=lambda line: line[66:])).encode()).hexdigest()


def content_bytes(path: Path) -> int:
    """A file's size; a folder's is that of all its files."""
    return sum(file.stat().st_size for file in files_below(path)) if path.is_dir() else path.stat().st_size
