"""The cache: complete folders only, whatever goes wrong."""

import threading
from pathlib import Path

import pytest

from satchel.cache import Cache


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
