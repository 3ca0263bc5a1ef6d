"""satchel doctor: what counts as missing, and what it says to do."""

from pathlib import Path

import pytest

from satchel.cache import Cache
from satchel.commands import doctor
from satchel.errors import ToolMissingError
from satchel.tools import Tools


def by_name(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name.split()[0]: check for check in checks}


def test_programs_that_are_not_there_are_missing_with_their_command(tmp_path: Path) -> None:
    checks = by_name(doctor.examine(Tools({"PATH": ""}), Cache(tmp_path)))
    assert checks["Maven"].found == ""
    assert "install" in checks["Maven"].fix
    with pytest.raises(ToolMissingError, match="mvn"):
        doctor.require(list(checks.values()))


def test_another_version_of_a_pinned_package_counts_as_missing(monkeypatch: pytest.MonkeyPatch, cache: Cache) -> None:
    monkeypatch.setattr(doctor, "pinned", lambda backend: {"numpy": "1.0", "pytest": "0.1"})
    checks = by_name(doctor.examine(Tools({"PATH": ""}), cache))
    assert checks["numpy"].found == ""
    assert "numpy 1.0 is needed" in checks["numpy"].fix


def test_a_local_build_of_the_pinned_version_is_the_pinned_version(
    monkeypatch: pytest.MonkeyPatch, cache: Cache
) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "2.13.0+cpu")
    monkeypatch.setattr(doctor, "pinned", lambda backend: {"torch": "2.13.0"})
    assert by_name(doctor.examine(Tools({"PATH": ""}), cache))["torch"].found == "2.13.0+cpu"


def test_a_cache_that_cannot_be_written_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checks = by_name(doctor.examine(Tools({"PATH": ""}), Cache(tmp_path / "file" / "cache")))
    assert checks["cache"].found == ""
    assert "SATCHEL_CACHE" in checks["cache"].fix
