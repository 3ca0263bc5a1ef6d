"""The cache: complete folders only, whatever goes wrong."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from satchel.cache import Cache
from satchel.cli import main
from satchel.commands.cache import parse_size


def _builder(text: str, calls: list[Path]):
    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "result").write_text(text)

    return build


def test_a_second_run_reuses_what_the_first_one_built(cache: Cache) -> None:
    calls: list[Path] = []
    first = cache.get_or_build("lower", {"context": 2048, "plan": "int4"}, _builder("a", calls))
    again = cache.get_or_build("lower", {"plan": "int4", "context": 2048}, _builder("b", calls))
    other = cache.get_or_build("lower", {"plan": "int4", "context": 1024}, _builder("c", calls))
    assert first == again
    assert first != other
    assert (again / "result").read_text() == "a"
    assert len(calls) == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_build_leaves_nothing(cache: Cache, interruption: type[BaseException]) -> None:
    def build(folder: Path) -> None:
        (folder / "result").write_text("half")
        raise interruption

    with pytest.raises(interruption):
        cache.get_or_build("lower", {"a": 1}, build)
    assert cache.find("lower", {"a": 1}) is None
    assert [path for path in cache.root.rglob("*") if path.is_file()] == []


def _truncate(folder: Path) -> None:
    (folder / "result").write_text("")


def _remove(folder: Path) -> None:
    (folder / "result").unlink()


def _lose_record(folder: Path) -> None:
    (folder / "entry.json").write_text("{")


@pytest.mark.parametrize("damage", [_truncate, _remove, _lose_record])
def test_a_damaged_folder_is_built_again(cache: Cache, damage) -> None:
    calls: list[Path] = []
    folder = cache.get_or_build("lower", {"a": 1}, _builder("whole", calls))
    damage(folder)
    assert cache.find("lower", {"a": 1}) is None
    assert cache.get_or_build("lower", {"a": 1}, _builder("whole", calls)) == folder
    assert (folder / "result").read_text() == "whole"
    assert len(calls) == 2


def test_two_builds_of_one_key_at_once_both_succeed(cache: Cache) -> None:
    both_building = threading.Barrier(2, timeout=20)
    found: list[str] = []

    def build(folder: Path) -> None:
        both_building.wait()
        (folder / "result").write_text("same")

    def run() -> None:
        found.append((cache.get_or_build("lower", {"a": 1}, build) / "result").read_text())

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["same", "same"]
    assert [path.name[0] for path in (cache.root / "lower").iterdir()].count(".") == 0
    assert len(list((cache.root / "lower").iterdir())) == 1


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SATCHEL_CACHE", str(tmp_path / "here"))
    assert Cache.default().root == tmp_path / "here"


def test_folders_have_the_permissions_of_the_users_umask(cache: Cache) -> None:
    before = os.umask(0o027)
    try:
        folder = cache.get_or_build("lower", {"a": 1}, _builder("x", []))
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / "result").stat().st_mode & 0o777 == 0o640


# --- making room ---


def filled(cache: Cache, ages_in_days: dict[str, float]) -> dict[str, Path]:
    """An entry of 1000 bytes and a record for each name, unused for so many days; nothing holds them."""
    folders = {}
    for name, days in ages_in_days.items():
        folders[name] = Cache(cache.root).get_or_build("lower", {"name": name}, _builder("x" * 1000, []))
        then = time.time() - days * 86400
        os.utime(folders[name] / "entry.json", (then, then))
    return folders


def left(folders: dict[str, Path]) -> set[str]:
    return {name for name, folder in folders.items() if folder.exists()}


def test_what_was_unused_for_long_goes(cache: Cache) -> None:
    folders = filled(cache, {"old": 40, "older": 50, "new": 3})
    removed = cache.prune(older_than_s=30 * 86400)
    assert left(folders) == {"new"}
    assert [entry.folder for entry in removed] == [folders["older"], folders["old"]]


def test_the_longest_unused_goes_until_the_rest_fits(cache: Cache) -> None:
    folders = filled(cache, {"a": 1, "b": 2, "c": 3})
    assert cache.prune(max_bytes=10_000) == []
    size = next(cache.entries()).bytes
    cache.prune(max_bytes=2 * size)
    assert left(folders) == {"a", "b"}


def test_taking_an_entry_makes_it_new(cache: Cache) -> None:
    folders = filled(cache, {"a": 40, "b": 40})
    assert Cache(cache.root).find("lower", {"name": "a"}) == folders["a"]
    cache.prune(older_than_s=30 * 86400)
    assert left(folders) == {"a"}


@pytest.mark.parametrize("taken_by", ["find", "get_or_build"])
def test_what_a_running_build_has_stays(cache: Cache, taken_by: str) -> None:
    """In another process: a lock of our own process would tell nothing."""
    folders = filled(cache, {"held": 40, "free": 40})
    script = (
        "import sys; from pathlib import Path; from satchel.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        f"folder = cache.{taken_by}('lower', {{'name': 'held'}}{', None' if taken_by == 'get_or_build' else ''})\n"
        "print(folder, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(cache.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline().strip() == str(folders["held"])
        cache.prune(older_than_s=0, max_bytes=0)
        assert left(folders) == {"held"}
        running.communicate("")
    cache.prune(older_than_s=0, max_bytes=0)
    assert left(folders) == set()


def test_an_entry_that_goes_while_it_is_looked_for_is_not_found(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = filled(cache, {"a": 40}).values()
    seen: list[Path] = []

    def pruned_meanwhile(path: Path) -> bool:
        seen.append(path)
        Cache(cache.root).prune(older_than_s=0)
        return True

    with monkeypatch.context() as patch:
        patch.setattr("satchel.cache._is_complete", pruned_meanwhile)
        assert cache.find("lower", {"name": "a"}) is None
    assert seen == [folder]
    assert cache.get_or_build("lower", {"name": "a"}, _builder("again", [])).joinpath("result").read_text() == "again"


def test_the_command_says_what_is_there_and_what_went(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = filled(cache, {"old": 40, "new": 3})
    monkeypatch.setenv("SATCHEL_CACHE", str(cache.root))
    assert main(["cache", "info", "--json"]) == 0
    (kind,) = json.loads(capsys.readouterr().out)["kinds"]
    assert (kind["stage"], kind["entries"]) == ("lower", 2)
    assert main(["cache", "prune"]) == 2
    assert "--older-than DAYS" in capsys.readouterr().err
    assert main(["cache", "prune", "--max-size", "much"]) == 2
    assert "'much' is no size" in capsys.readouterr().err
    assert main(["cache", "prune", "--older-than", "30", "--max-size", "10GB"]) == 0
    assert "1 entries removed" in capsys.readouterr().out
    assert left(folders) == {"new"}


@pytest.mark.parametrize(("text", "size"), [("10GB", 10**10), ("500 mb", 5 * 10**8), ("1.5g", 15 * 10**8), ("7", 7)])
def test_sizes_are_read_in_decimal_units(text: str, size: int) -> None:
    assert parse_size(text) == size
