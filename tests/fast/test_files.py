"""Files and folders are whole or not there, and nothing is replaced that Satchel did not make."""

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from satchel.bundle.folder import bundles_in
from satchel.errors import OutputError
from satchel.files import (
    MARKER,
    assembled_folder,
    files_below,
    foreign_files,
    is_marked,
    link_tree,
    mark,
    require_apart,
    require_replaceable,
    write_file,
)
from satchel.hashing import content_bytes, content_sha256
from satchel.package.archive import folder_entries


def fill(folder: Path, content: str) -> None:
    with assembled_folder(folder) as new:
        (new / "inner").mkdir()
        (new / "inner" / "file").write_text(content)


def content(folder: Path) -> str:
    return (folder / "inner" / "file").read_text()


# --- files ---


@pytest.mark.parametrize(
    "read", [files_below, foreign_files, mark, content_sha256, content_bytes, folder_entries, bundles_in]
)
def test_a_folder_that_cannot_be_read_is_never_taken_for_an_empty_one(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pathlib's glob is silent about it, whatever the error is from Python 3.13 on: half a folder would be hashed."""
    fill(tmp_path / "folder", "one")

    def broken(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "scandir", broken)
    monkeypatch.setattr(os, "listdir", broken)
    with pytest.raises(OSError, match="Input/output error"):
        read(tmp_path / "folder")


def test_the_files_below_a_folder(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "one")
    (tmp_path / "folder" / "a").write_text("")
    (tmp_path / "folder" / "leads nowhere").symlink_to("nothing")
    below = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert below == [f"folder/{MARKER}", "folder/a", "folder/inner/file"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "deep" / "file.json"
    write_file(place, b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            write_file(place, b"two")
    assert place.read_bytes() == b"one"
    assert list(place.parent.iterdir()) == [place]


def test_many_writers_of_one_file_never_meet(tmp_path: Path) -> None:
    place, problems = tmp_path / "record.json", []
    contents = {bytes([65 + writer]) * 50_000 for writer in range(4)}

    def write(one: bytes) -> None:
        try:
            for _ in range(50):
                write_file(place, one)
        except OSError as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(one,)) for one in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert place.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [place]


def test_a_written_file_has_the_permissions_of_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", b"")
        fill(tmp_path / "folder", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_a_link_keeps_leading_where_it_led(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "report.json"
    link.symlink_to("real/report.json")
    write_file(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "report.json").read_bytes() == b"new"


# --- folders ---


def test_an_assembled_folder_replaces_the_good_one_only_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    fill(place, "one")
    fill(place, "two")
    assert content(place) == "two"

    def interrupted() -> None:
        with assembled_folder(place) as folder:
            (folder / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert content(place) == "two"
    assert list(tmp_path.iterdir()) == [place]


def test_a_failed_second_rename_puts_the_last_good_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "bundle"
    fill(place, "good")
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="Input/output"):
        fill(place, "new")
    assert content(place) == "good"
    assert list(tmp_path.iterdir()) == [place]


def test_a_run_killed_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    fill(place, "last good")
    place.rename(tmp_path / ".bundle.previous-x1y2")
    with pytest.raises(ZeroDivisionError), assembled_folder(place):
        _ = 1 / 0
    assert content(place) == "last good"


# --- whose it is ---


def test_what_satchel_made_is_listed_and_everything_else_is_the_users(tmp_path: Path) -> None:
    place = tmp_path / "out"
    fill(place, "x")
    assert is_marked(place)
    assert json.loads((place / MARKER).read_text())["files"] == ["inner/file"]
    assert foreign_files(place) == []
    (place / ".DS_Store").write_text("a Mac looked at the folder")
    assert foreign_files(place) == []
    (place / "inner" / "thesis.txt").write_text("mine")
    assert foreign_files(place) == ["inner/thesis.txt"]
    (place / MARKER).write_text("{")
    assert foreign_files(place) == ["inner/file", "inner/thesis.txt"]


@pytest.mark.parametrize("what", ["a file of the user's", "a folder of the user's", "among ours", "a file", "a link"])
def test_what_is_not_ours_is_refused_and_stays(tmp_path: Path, what: str) -> None:
    place = tmp_path / "mine"
    if what == "among ours":
        fill(place, "x")
    if what == "a file":
        place.write_text("thesis")
    elif what == "a link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        (place / ".git").mkdir(parents=True)
        if what != "a folder of the user's":
            (place / ".git" / "config").write_text("[core]")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=str(place)):
        require_replaceable(place)
    with pytest.raises(OutputError, match=str(place)):
        fill(place, "new")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_came_while_a_folder_was_filled_stays_too(tmp_path: Path) -> None:
    place = tmp_path / "out"

    def meanwhile() -> None:
        with assembled_folder(place) as new:
            (new / "file").write_text("new")
            place.mkdir()
            (place / "thesis.txt").write_text("mine")

    with pytest.raises(OutputError, match=r"thesis\.txt"):
        meanwhile()
    assert [path.name for path in place.iterdir()] == ["thesis.txt"]
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"file is a file"):
        require_replaceable(tmp_path / "file" / "out")


def test_an_output_that_has_to_do_with_the_model_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "models" / "tiny"
    model.mkdir(parents=True)
    (tmp_path / "link").symlink_to(model)
    for out, said in [
        (model, "is the model's folder"),
        (tmp_path / "link", "is the model's folder"),
        (model / "build", "lies in the model's folder"),
        (tmp_path, "holds the model's folder"),
    ]:
        with pytest.raises(OutputError, match=said):
            require_apart(out, str(model))
    require_apart(tmp_path / "build", str(model))
    require_apart(tmp_path / "models" / "tiny-int4", str(model))
    require_apart(tmp_path, "smollm2-135m-instruct")


def test_a_tree_is_linked_or_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "a", "x")
    link_tree(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "inner" / "file").samefile(tmp_path / "a" / "inner" / "file")

    def refused(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    link_tree(tmp_path / "a", tmp_path / "c")
    link_tree(tmp_path / "a" / "inner" / "file", tmp_path / "d" / "file")
    assert content(tmp_path / "c") == (tmp_path / "d" / "file").read_text() == "x"
    assert is_marked(tmp_path / "c")
    assert not is_marked(tmp_path / "d")
    mark(tmp_path / "d")
    require_replaceable(tmp_path / "d")
