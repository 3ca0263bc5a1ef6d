"""The folder that a build fills: what it publishes, it publishes together.

    DIR/bundle, DIR/android, DIR/ios, DIR/report.json, DIR/report.html    links to .satchel/current/<the same name>
    DIR/.satchel/current                                                  a link to the generation that counts
    DIR/.satchel/generation-<random>                                      everything that one build published
    DIR/rejected                                                          what last failed its gates, a plain folder

Rules that hold at every moment, whatever is killed and however full the disk is:
- a generation is complete before anything leads to it, and one rename of the link `current` publishes it: a reader
  finds the whole last generation or the whole new one;
- a link in DIR is made before `current` moves, and leads nowhere until then;
- what this build did not make (another backend's bundle) is carried over from the last generation, by hard links;
- in DIR only those links, `.satchel` and `rejected` are ever touched, and only if Satchel made them;
- one process at a time builds into DIR: a second one is refused.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from satchel.errors import OutputBusyError, OutputError
from satchel.files import (
    MARKER,
    assembled_folder,
    foreign_files,
    is_marked,
    link_tree,
    mark,
    new_folder,
    require_place,
    require_replaceable,
)

BUNDLES = "bundle"
ANDROID = "android"
REJECTED = "rejected"
PUBLISHED = (BUNDLES, ANDROID, "ios", "report.json", "report.html")

_HOME = ".satchel"
_LOCK = "lock"
_CURRENT = "current"
_GENERATION = "generation-"


class Output:
    """DIR while a build has it for itself. `work`: the generation to fill, which `publish` or `reject` finishes."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self.work = work

    @property
    def bundles(self) -> Path:
        """Where the bundles of the last generation lie, if there is one."""
        return self.folder / BUNDLES

    def publish(self) -> None:
        """Makes `work`, and what of the last generation it does not replace, the one that counts."""
        home, last = self.folder / _HOME, _current(self.folder)
        if last is not None:
            _carry_over(last, self.work)
        mark(self.work)
        for name in PUBLISHED:
            if (self.work / name).exists():
                _make_link(self.folder, name)
        following = home / f"{_CURRENT}.new"
        following.symlink_to(self.work.name)
        following.replace(home / _CURRENT)
        for name in PUBLISHED:
            if not (self.work / name).exists():
                _remove_link(self.folder, name)
        remove_rejected(self.folder)

    def reject(self) -> Path:
        """Moves what `work` holds to DIR/rejected and returns that folder. The last generation stays as it is."""
        with assembled_folder(self.folder / REJECTED) as folder:
            for entry in self.work.iterdir():
                entry.rename(folder / entry.name)
        return self.folder / REJECTED


@contextmanager
def opened_output(folder: Path) -> Iterator[Output]:
    """DIR for one build, locked; what is not published or rejected when the block ends is gone.

    Raises OutputError naming what in it is not Satchel's, OutputBusyError if another build has it.
    """
    _require_home(folder)
    made = not folder.exists()
    with _locked(folder):
        try:
            require_output(folder)
            _sweep(folder)
            yield Output(folder, new_folder(folder / _HOME, _GENERATION))
        finally:
            _tidy(folder, made)


def require_output(folder: Path) -> None:
    """Raises OutputError if a build into `folder` would replace something that Satchel did not make."""
    _require_home(folder)
    for name in PUBLISHED:
        if not _is_our_link(folder / name):
            require_replaceable(folder / name)
    require_replaceable(folder / REJECTED)
    last = _current(folder)
    if last is not None and (foreign := foreign_files(last)):
        raise OutputError(
            f"{folder / foreign[0]} was not made by Satchel, and the next build replaces the folder that it is in. "
            "Move it away, or name another folder with --out."
        )


def remove_output(folder: Path) -> None:
    """Removes what builds left in `folder`, and `folder` too if nothing else is in it. Raises OutputError as a build
    would if something among it is not Satchel's."""
    require_output(folder)
    for name in PUBLISHED:
        _remove_link(folder, name)
    remove_rejected(folder)
    shutil.rmtree(folder / _HOME, ignore_errors=True)
    with suppress(OSError):  # it holds what is not ours
        folder.rmdir()


def remove_rejected(folder: Path) -> None:
    """What an earlier build left in DIR/rejected, unless something else has come to it since."""
    rejected = folder / REJECTED
    if is_marked(rejected) and not foreign_files(rejected):
        shutil.rmtree(rejected)


# --- the parts ----------------------------------------------------------------------------------------------------


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """DIR/.satchel, made and marked, with a lock that ends with the process."""
    from filelock import FileLock, Timeout

    home = folder / _HOME
    while True:
        lock = FileLock(home / _LOCK)
        try:
            home.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except FileNotFoundError:  # a build that failed has just removed the folder
            continue
        except Timeout:
            raise OutputBusyError(
                f"Another build is writing to {folder}. Wait until it has ended, or name another folder with --out."
            ) from None
        break
    try:
        if not (home / MARKER).exists():
            mark(home)
        yield
    finally:
        lock.release()


def _current(folder: Path) -> Path | None:
    """The last generation of DIR."""
    generation = (folder / _HOME / _CURRENT).resolve()
    return generation if generation.is_dir() and generation.name.startswith(_GENERATION) else None


def _carry_over(last: Path, work: Path) -> None:
    """Into `work` from the last generation: every bundle of a backend that `work` does not have, and whole names."""
    for name in PUBLISHED:
        if (last / name).exists() and not (work / name).exists():
            link_tree(last / name, work / name)
    for bundle in (last / BUNDLES).iterdir() if (last / BUNDLES).is_dir() else ():
        if not (work / BUNDLES / bundle.name).exists():
            link_tree(bundle, work / BUNDLES / bundle.name)


def _require_home(folder: Path) -> None:
    """DIR/.satchel can be made or is Satchel's: marked, or left by a build that was killed before it could mark it."""
    require_place(folder)
    home = folder / _HOME
    if home.exists() and not is_marked(home):
        with suppress(FileNotFoundError):  # a build that failed has just removed it
            if any(path.name != _LOCK and MARKER not in path.name for path in home.iterdir()):
                raise OutputError(f"{home} is not a folder that Satchel made. Name another folder with --out.")


def _is_our_link(place: Path) -> bool:
    return place.is_symlink() and place.readlink() == Path(_HOME, _CURRENT, place.name)


def _make_link(folder: Path, name: str) -> None:
    place = folder / name
    if _is_our_link(place):
        return
    require_replaceable(place)
    if place.exists():  # empty
        place.rmdir()
    place.symlink_to(f"{_HOME}/{_CURRENT}/{name}")


def _remove_link(folder: Path, name: str) -> None:
    if _is_our_link(folder / name):
        (folder / name).unlink()


def _sweep(folder: Path) -> None:
    """What killed builds left in DIR/.satchel."""
    last = _current(folder)
    for path in (folder / _HOME).iterdir():
        if path.name == f"{_CURRENT}.new":
            path.unlink()
        elif path.name.startswith(_GENERATION) and path.name != (last.name if last else None):
            shutil.rmtree(path, ignore_errors=True)


def _tidy(folder: Path, made: bool) -> None:
    """Leaves nothing but the generation that counts; nothing at all if there is none."""
    home = folder / _HOME
    if not home.is_dir():
        return
    _sweep(folder)
    if _current(folder) is not None:
        return
    for name in PUBLISHED:
        _remove_link(folder, name)
    with suppress(OSError):  # from the last unlink on, another build may be at home here
        for name in (_CURRENT, MARKER, _LOCK):
            (home / name).unlink(missing_ok=True)
        home.rmdir()
        if made:
            folder.rmdir()  # unless it holds what was rejected
