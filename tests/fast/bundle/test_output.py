"""What a build publishes, it publishes together, and it touches nothing else in the folder."""

import errno
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from satchel.bundle.output import opened_output, remove_output
from satchel.errors import OutputBusyError, OutputError
from satchel.files import assembled_folder

FILES = ("bundle/executorch/model.pte", "android/maven/core.jar", "report.json", "report.html")


def publish(out: Path, content: str, files: tuple[str, ...] = FILES) -> None:
    with opened_output(out) as output:
        for name in files:
            (output.work / name).parent.mkdir(parents=True, exist_ok=True)
            (output.work / name).write_text(content)
        output.publish()


def visible(out: Path) -> dict[str, str]:
    """What a reader of DIR finds: path -> content, hidden files left out."""
    found = {}
    for place, folders, names in os.walk(out, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place) / name
            if not name.startswith(".") and path.exists():
                found[path.relative_to(out).as_posix()] = path.read_text()
    return found


def entries(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def test_a_generation_replaces_the_last_one_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, "one")
    publish(out, "two")
    assert visible(out) == dict.fromkeys(FILES, "two")
    assert entries(out) == {".satchel", "bundle", "android", "report.json", "report.html"}
    assert len(list((out / ".satchel").glob("generation-*"))) == 1


def test_what_a_build_does_not_make_is_carried_over(tmp_path: Path) -> None:
    publish(tmp_path, "one", (*FILES, "bundle/litert/model.tflite"))
    publish(tmp_path, "two", ("bundle/coreml/model.mlpackage/weight.bin", "report.json"))
    assert visible(tmp_path) == {
        **dict.fromkeys((*FILES, "bundle/litert/model.tflite"), "one"),
        **dict.fromkeys(("bundle/coreml/model.mlpackage/weight.bin", "report.json"), "two"),
    }


def test_a_build_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    def fails() -> None:
        with opened_output(tmp_path / "out") as output:
            (output.work / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert not (tmp_path / "out").exists()
    publish(tmp_path / "out", "one")
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(RuntimeError):
        fails()
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_a_rejected_generation_lies_apart_until_a_good_one_comes(tmp_path: Path) -> None:
    publish(tmp_path, "good")
    with opened_output(tmp_path) as output:
        (output.work / "report.json").write_text("bad")
        assert output.reject() == tmp_path / "rejected"
    assert visible(tmp_path) == {**dict.fromkeys(FILES, "good"), "rejected/report.json": "bad"}
    publish(tmp_path, "better")
    assert not (tmp_path / "rejected").exists()


USERS = [
    "android/app/build.gradle.kts",
    "bundle/thesis.txt",
    "ios/Podfile",
    "rejected/manuscript.txt",
    "report.html",
    ".satchel/notes.txt",
]


@pytest.mark.parametrize("file", USERS)
def test_a_users_file_in_the_way_is_named_and_stays(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("mine")
    for act in (publish, lambda out, _: remove_output(out)):
        with pytest.raises(OutputError, match=file.split("/")[0]):
            act(tmp_path, "one")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [file]


@pytest.mark.parametrize("file", ["android/notes.txt", "bundle/executorch/extra.bin", "bundle/mine/a"])
def test_a_file_put_among_what_was_published_is_named_and_stays(tmp_path: Path, file: str) -> None:
    publish(tmp_path, "one")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("mine")
    for act in (publish, lambda out, _: remove_output(out)):
        with pytest.raises(OutputError, match=file):
            act(tmp_path, "two")
    assert visible(tmp_path) == {**dict.fromkeys(FILES, "one"), file: "mine"}


def test_empty_folders_in_the_way_are_used_and_others_beside_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "android").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.dart").write_text("mine")
    publish(tmp_path, "one")
    assert visible(tmp_path) == {**dict.fromkeys(FILES, "one"), "src/main.dart": "mine"}
    remove_output(tmp_path)
    assert visible(tmp_path) == {"src/main.dart": "mine"}
    assert entries(tmp_path) == {"src"}


def test_cleaning_takes_everything_that_builds_made(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, "one")
    with opened_output(out) as output:
        output.reject()
    remove_output(out)
    assert not out.exists()
    remove_output(out)


def test_a_file_where_the_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="file is a file"):
            publish(out, "one")


def test_a_second_build_is_refused_while_one_runs(tmp_path: Path) -> None:
    with opened_output(tmp_path / "out") as output:
        with pytest.raises(OutputBusyError, match="Another build is writing"):
            publish(tmp_path / "out", "second")
        (output.work / "report.json").write_text("first")
        output.publish()
    assert visible(tmp_path / "out") == {"report.json": "first"}


def in_a_child(work: object) -> int:
    """Runs `work` in a forked process; returns how it ended (negative: the signal)."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
        except OutputBusyError:
            os._exit(75)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


UNTOUCHED = 77  # how a child ends that was through before its moment came
# A full disk need not end a build: a file that can't be linked is copied, and what is no longer needed may stay.
ENDS = {kill: (-signal.SIGKILL, UNTOUCHED), fill_the_disk: (0, 1, UNTOUCHED)}


def break_at(moment: int, inside: Path, breaking: Callable[[], None]) -> list[int]:
    """Calls `breaking` before the `moment`th time that this process is about to touch a file or folder in `inside`.

    The list that is returned has that moment in it once it was reached.
    """
    seen, reached = 0, list[int]()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if not event.startswith(("os.", "open", "shutil.", "tempfile.")):
            return
        if any(str(inside) in str(argument) for argument in arguments if isinstance(argument, str | Path)):
            seen += 1
            if seen == moment:
                reached.append(moment)
                breaking()

    sys.addaudithook(watch)
    return reached


@pytest.mark.parametrize("built_before", [False, True])
@pytest.mark.parametrize("breaking", [kill, fill_the_disk])
def test_a_kill_or_a_full_disk_at_any_moment_leaves_one_whole_generation(
    tmp_path: Path, breaking: Callable[[], None], built_before: bool
) -> None:
    """Every moment at which a build touches the folder: before the first file to after the last."""
    old = dict.fromkeys((*FILES, "bundle/litert/model.tflite"), "old") if built_before else {}
    new = {**old, **dict.fromkeys(FILES, "new")}
    seen, moment, ended = [], 0, 1
    while ended != UNTOUCHED:
        moment += 1
        out = tmp_path / str(moment)
        if built_before:
            publish(out, "old", tuple(old))

        def build(out: Path = out, moment: int = moment) -> None:
            broken = break_at(moment, out, breaking)
            publish(out, "new")
            if not broken:
                os._exit(UNTOUCHED)

        ended = in_a_child(build)
        found = visible(out)
        assert found in (old, new), f"a mixture at moment {moment}"
        seen.append(found == new)
        assert ended in ENDS[breaking]
        assert ended != 0 or found == new  # what calls itself done is done
        publish(out, "next")
        assert visible(out) == {**old, **dict.fromkeys(FILES, "next")}
        assert entries(out) == {".satchel", "bundle", "android", "report.json", "report.html"}
    assert moment > 20
    if breaking is kill:
        assert seen == sorted(seen)  # first always the last one, from one moment on always the new one
    assert True in seen
    assert False in seen


def test_two_processes_into_one_folder(tmp_path: Path) -> None:
    """Twenty rounds: one publishes or both do, one after the other; nobody finds a mixture or a defect."""
    for round_ in range(20):
        out = tmp_path / str(round_ % 3)  # also one that is not there yet
        child = os.fork()
        if child == 0:
            code = in_a_child(lambda out=out: publish(out, "a"))
            os._exit(code & 0xFF)
        other = in_a_child(lambda out=out: publish(out, "b"))
        one = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert {one, other} <= {0, 75}
        assert 0 in (one, other)
        assert visible(out) in (dict.fromkeys(FILES, "a"), dict.fromkeys(FILES, "b"))


def test_make_clean_takes_what_make_targets_made_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "build"
    publish(out, "one")
    with assembled_folder(out / "example-android") as folder:
        (folder / "app.apk").write_text("")
    assert made("claim", out / "docs") == 0
    (out / "docs" / "index.html").write_text("")
    assert made("mark", out / "docs") == 0
    (out / "docs" / "notes.txt").write_text("mine")
    before = visible(out)
    assert made("remove", out) == 2
    assert visible(out) == before
    (out / "docs" / "notes.txt").rename(out / "notes.txt")
    assert made("remove", out) == 0
    assert visible(tmp_path) == {"build/notes.txt": "mine"}
    assert made("remove", tmp_path / "nothing") == 0
    assert made("claim", out) == 2


def made(verb: str, folder: Path) -> int:
    """scripts/made.py with a Python that has no packages, as before anything is installed."""
    script = Path(__file__).parents[3] / "scripts" / "made.py"
    return subprocess.run([sys.executable, "-S", script, verb, folder], capture_output=True, check=False).returncode
