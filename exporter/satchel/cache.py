"""The content-addressed cache: each stage's output is a folder whose name is the hash of everything it depends on.

Rules that every stage may rely on:
- a folder under its final name is complete: it is built under a temporary name and renamed, so an interrupted or failed
  build leaves nothing that a later run could mistake for a result;
- a folder that lost a file or whose file changed its size is thrown away and built again;
- two processes that build the same key at once both succeed; the first rename wins, and both return that folder.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

_RECORD = "entry.json"  # {"key": ..., "files": {relative path: bytes}}
_ABANDONED_AFTER_S = 24 * 3600  # a temporary folder this old belongs to a killed run


class Cache:
    """Stage folders under `root`: `root/<stage>/<hash>/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

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
        return folder if _is_complete(folder) else None

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
        attempt = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
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
        return folder

    def discard(self, folder: Path) -> None:
        """Remove a folder. It is renamed first, so that no other process sees half of it under its final name."""
        doomed = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
        try:
            folder.rename(doomed / folder.name)
        finally:
            shutil.rmtree(doomed, ignore_errors=True)


def key_hash(key: Mapping[str, Any]) -> str:
    """32 hex digits of SHA-256 over the key's canonical JSON: the order of its entries does not matter."""
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _files(folder: Path) -> dict[str, int]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != _RECORD)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(found)}


def _write_record(folder: Path, key: Mapping[str, Any]) -> None:
    record = {"key": key, "files": _files(folder)}
    (folder / _RECORD).write_text(json.dumps(record, sort_keys=True, indent=2) + "\n", encoding="utf-8")


def _is_complete(folder: Path) -> bool:
    """Every recorded file is there with its size. Cheap on purpose: contents are checked by whoever reads them."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return bool(_files(folder) == record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sweep_abandoned(stage_folder: Path) -> None:
    for path in stage_folder.glob(".building-*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:  # its owner finished meanwhile
            continue
