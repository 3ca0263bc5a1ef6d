"""Files and folders that appear whole or not at all, and folders that may be replaced because Satchel made them.

Rules that every writer may rely on:
- a file or folder under its final name is complete: it is filled under a name of its own beside it, then renamed;
- a folder is replaced or removed only if it is empty, or if it carries Satchel's marker and holds no file that the
  marker doesn't list. Whatever a user put into it is the user's.

Standard library only: `make clean` uses it before anything is installed.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from satchel.errors import OutputError

MARKER = ".made-by-satchel.json"  # {"note": for people, "files": [path in the folder, ...]}

_NOTE = "Satchel made this folder and replaces it as a whole. Keep nothing of your own in it."
_LEFT_BY_THE_SYSTEM = {".DS_Store"}  # a Mac's Finder writes it into every folder that it shows
_ABANDONED_AFTER_S = 24 * 3600  # an unfinished folder this old belongs to a killed run


def canonical_json(value: Any) -> bytes:
    """JSON the way every file of Satchel has it: UTF-8, sorted keys, two spaces, a newline at the end."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_file(path: Path, content: bytes) -> None:
    """The file `path` with `content`, whole or not at all, also when several processes write it; folders are made.

    A link keeps leading where it leads: the file behind it is replaced.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        share(Path(name))
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def new_folder(parent: Path, prefix: str) -> Path:
    """A fresh folder in `parent` (which is made) under a name that no other process has."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    share(folder)
    return folder


def share(path: Path) -> None:
    """Permissions as the user's umask has them: temporary names are made private."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def files_below(folder: Path) -> list[Path]:
    """Every file below `folder`, at any depth, sorted.

    Raises OSError for a folder that can't be read. `Path.glob` passes over it without a word (whatever the error, from
    Python 3.13 on), and a list that lacks what is in it would be hashed or packed as if it were whole.
    """
    return sorted(path for place, _, names in _walk(folder) for name in names if (path := Path(place) / name).is_file())


# --- whose a folder is --------------------------------------------------------------------------------------------


def mark(folder: Path) -> None:
    """Satchel made `folder` and every file that it holds now."""
    write_file(folder / MARKER, canonical_json({"note": _NOTE, "files": sorted(_files(folder) - {MARKER})}))


def is_marked(folder: Path) -> bool:
    return not folder.is_symlink() and (folder / MARKER).is_file()


def foreign_files(folder: Path) -> list[str]:
    """Paths in `folder` of the files that its marker doesn't list; all of them if it has no marker that can be read."""
    try:
        listed = set(json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        listed = set()
    found = _files(folder) - listed - {MARKER}
    return sorted(path for path in found if Path(path).name not in _LEFT_BY_THE_SYSTEM)


def require_place(folder: Path) -> None:
    """Raises OutputError if no folder can be made at `folder`, because it or what it lies in is a file."""
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir():
                raise OutputError(f"{place} is a file, so {folder} can't be a folder. Name another one with --out.")
            return


def require_replaceable(folder: Path) -> None:
    """Raises OutputError if `folder` is there and replacing it would take something that Satchel did not make."""
    require_place(folder.parent)
    if folder.is_symlink() or folder.is_file():
        raise OutputError(
            f"{folder} was not made by Satchel, and would be replaced. Move it away, or name another folder with --out."
        )
    if not folder.exists():
        return
    others = [] if is_marked(folder) else sorted({path.name for path in folder.iterdir()} - _LEFT_BY_THE_SYSTEM)
    if foreign := foreign_files(folder) or others:
        raise OutputError(
            f"{folder} holds {foreign[0]}, which Satchel did not make, and would be replaced as a whole. "
            "Move it away, or name another folder with --out."
        )


def require_apart(out: Path, model: str) -> None:
    """Raises OutputError if `out` is, holds or lies in the folder of the model, whose files would be at stake."""
    folder = Path(model)
    try:
        if not folder.is_dir():
            return
    except (OSError, ValueError):  # no path at all, such as a name of 300 characters
        return
    results, source = out.resolve(), folder.resolve()
    if results == source or results in source.parents or source in results.parents:
        relation = "is" if results == source else "holds" if results in source.parents else "lies in"
        raise OutputError(f"{out} {relation} the model's folder {model}. Name a folder apart from it with --out.")


# --- folders ------------------------------------------------------------------------------------------------------


@contextmanager
def assembled_folder(destination: Path) -> Iterator[Path]:
    """A fresh folder to fill, which becomes `destination`, with the marker, when the block ends without an error.

    Until then the last good `destination` stays as it is; on an error or Ctrl-C the half-filled folder is removed.
    After a kill between the two renames the next use puts the last good one back. Raises OutputError, before and after
    the block, if `destination` is not Satchel's to replace.
    """
    _recover(destination)
    require_replaceable(destination)
    filling = new_folder(destination.parent, f".{destination.name}.new-")
    try:
        yield filling
        mark(filling)
        require_replaceable(destination)
        previous = Path(tempfile.mkdtemp(prefix=f".{destination.name}.previous-", dir=destination.parent))
        if destination.exists():
            destination.rename(previous)
        try:
            filling.rename(destination)
        except BaseException:
            if any(previous.iterdir()):
                previous.rename(destination)
            raise
        finally:
            shutil.rmtree(previous, ignore_errors=True)
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise


def _recover(destination: Path) -> None:
    """What a killed run left beside `destination`: the last good folder is put back, old halves are removed."""
    for previous in _beside(destination, "previous"):
        if is_marked(previous) and not destination.exists():
            previous.rename(destination)
    for half in _beside(destination, "new"):
        with suppress(FileNotFoundError):  # its owner finished meanwhile
            if time.time() - half.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(half, ignore_errors=True)


def _beside(destination: Path, kind: str) -> list[Path]:
    folder = destination.parent
    return (
        [path for path in folder.iterdir() if path.name.startswith(f".{destination.name}.{kind}-")]
        if folder.is_dir()
        else []
    )


def link_tree(source: Path, target: Path) -> None:
    """The folder or file `source` once more as `target`, without a second copy of the bytes where links can be had."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # this file system has no hard links
        shutil.copy2(source, target)


def _files(folder: Path) -> set[str]:
    """Paths of every file and link below `folder`."""
    return {
        (Path(place) / name).relative_to(folder).as_posix()
        for place, folders, names in _walk(folder)
        for name in [*names, *(one for one in folders if (Path(place) / one).is_symlink())]
    }


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    return os.walk(folder, onerror=_refuse)


def _refuse(error: OSError) -> None:
    raise error
