"""The content-addressed cache: each stage's output is a folder whose name is the hash of everything it depends on.

Rules that every stage may rely on:
- a folder under its final name is complete: it is built under a temporary name and renamed, so an interrupted or failed
  build leaves nothing that a later run could mistake for a result;
- a folder that lost a file or whose file changed its size is thrown away and built again;
- two processes that build the same key at once both succeed; the first rename wins, and both return that folder;
- a folder that was found or built stays until the process that has it ends: `prune` leaves it alone.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import platformdirs

from satchel.files import canonical_json, files_below, new_folder

_RECORD = "entry.json"  # {"key": ..., "files": {relative path: bytes}}; used when it was last modified
_BUILDING = ".building-"
_ABANDONED_AFTER_S = 24 * 3600  # a temporary folder this old belongs to a killed run


@dataclass(frozen=True)
class Entry:
    """One folder of the cache. used: when a build last took it, in seconds since the epoch."""

    stage: str
    folder: Path
    bytes: int
    used: float


class Cache:
    """Stage folders under `root`: `root/<stage>/<hash>/`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._held: dict[Path, IO[bytes]] = {}
        self._holds = ExitStack()  # closed with this object, at the latest when the process ends

    @classmethod
    def default(cls) -> "Cache":
        """The user's cache: `$SATCHEL_CACHE`, else the platform's cache folder."""
        configured = os.environ.get("SATCHEL_CACHE")
        return cls(Path(configured) if configured else Path(platformdirs.user_cache_dir("satchel")))

    def path(self, stage: str, key: Mapping[str, Any]) -> Path:
        """Where the folder of this key lies once it is built. `key` must be JSON data."""
        return self.root / stage / key_hash(key)

    def find(self, stage: str, key: Mapping[str, Any]) -> Path | None:
        """The complete folder of this key, or None."""
        folder = self.path(stage, key)
        return folder if _is_complete(folder) and self._hold(folder) else None

    def get_or_build(self, stage: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder of this key; `build` fills an empty folder if there is none yet.

        Whatever `build` raises passes through, and nothing of the attempt stays behind.
        """
        found = self.find(stage, key)
        if found is not None:
            return found
        folder = self.path(stage, key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep_abandoned(folder.parent)
        if folder.exists():
            self.discard(folder)
        attempt = new_folder(folder.parent, _BUILDING)
        try:
            build(attempt)
            _write_record(attempt, key)
            try:
                attempt.rename(folder)
            except OSError:  # another process finished first
                if not _is_complete(folder):
                    raise
        finally:
            shutil.rmtree(attempt, ignore_errors=True)
        return folder if self._hold(folder) else self.get_or_build(stage, key, build)

    def entries(self) -> Iterator[Entry]:
        """Every complete folder."""
        for record in sorted(self.root.glob(f"*/[!.]*/{_RECORD}")):
            with suppress(FileNotFoundError):  # removed meanwhile
                size = sum(file.stat().st_size for file in files_below(record.parent))
                yield Entry(record.parent.parent.name, record.parent, size, record.stat().st_mtime)

    def prune(self, older_than_s: float | None = None, max_bytes: int | None = None) -> list[Entry]:
        """Removes folders that were not used for so long, then those unused the longest until the rest is at most
        `max_bytes`; returns what it removed. A folder that a running build has stays, however old or large."""
        removed = []
        left = sorted(self.entries(), key=lambda entry: entry.used)
        total = sum(entry.bytes for entry in left)
        for entry in left:
            too_old = older_than_s is not None and time.time() - entry.used > older_than_s
            too_much = max_bytes is not None and total > max_bytes
            if (too_old or too_much) and self._remove_unused(entry.folder):
                removed.append(entry)
                total -= entry.bytes
        for stage in {entry.folder.parent for entry in left}:
            _sweep_abandoned(stage)
        return removed

    def _hold(self, folder: Path) -> bool:
        """Says that the folder is used now, and in use from now on; False if it has just been removed."""
        try:
            file = (folder / _RECORD).open("rb")
        except FileNotFoundError:
            return False
        fcntl.flock(file, fcntl.LOCK_SH)
        if not _is_same_file(file, folder / _RECORD):  # removed while we waited
            file.close()
            return False
        with suppress(OSError):  # a cache that is only read
            os.utime(folder / _RECORD)
        if folder in self._held:
            self._held[folder].close()
        self._held[folder] = self._holds.enter_context(file)
        return True

    def _remove_unused(self, folder: Path) -> bool:
        try:
            with (folder / _RECORD).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.discard(folder)
        except (BlockingIOError, FileNotFoundError):  # in use; removed meanwhile
            return False
        return True

    def discard(self, folder: Path) -> None:
        """Remove a folder. It is renamed first, so that no other process sees half of it under its final name."""
        doomed = new_folder(folder.parent, _BUILDING)
        try:
            folder.rename(doomed / folder.name)
        finally:
            shutil.rmtree(doomed, ignore_errors=True)


def key_hash(key: Mapping[str, Any]) -> str:
    """32 hex digits of SHA-256 over the key's canonical JSON: the order of its entries does not matter."""
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _files(folder: Path) -> dict[str, int]:
    found = (path for path in files_below(folder) if path.name != _RECORD)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


def _write_record(folder: Path, key: Mapping[str, Any]) -> None:
    record = {"key": key, "files": _files(folder)}
    (folder / _RECORD).write_bytes(canonical_json(record))


def _is_complete(folder: Path) -> bool:
    """Every recorded file is there with its size. Cheap on purpose: contents are checked by whoever reads them."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return bool(_files(folder) == record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sweep_abandoned(stage_folder: Path) -> None:
    for path in stage_folder.glob(f"{_BUILDING}*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:  # its owner finished meanwhile
            continue
