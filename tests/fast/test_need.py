"""scripts/need.py: what is installed, by whom, and what is said where nothing may be."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import need
from satchel.tools import PROGRAMS, Tools

ROOT = Path(__file__).resolve().parents[2]
ALL = ["maven", "cxx", "jdk", "aapt2", "apksigner", "keytool", "npm"]
PACKAGES = ["maven", "g++", "default-jdk-headless", "aapt", "apksigner", "npm"]
UPDATE = ["apt-get", "update", "-qq"]
INSTALL = [
    *("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"),
    *("-o", "DPkg::Lock::Timeout=600"),
]


class Machine:
    """A machine whose PATH is one folder; it records what is run, and its apt-get installs what `packages` says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packages: dict[str, Sequence[str]] = {}
        self.exit_codes: dict[str, int] = {}  # by a word of the command
        self.commands: list[list[str]] = []

    def add(self, *programs: str) -> None:
        for program in programs:
            (self.path / program).write_text("#!/bin/sh\n")
            (self.path / program).chmod(0o755)

    def run(self, argv: Sequence[str]) -> int:
        self.commands.append(list(argv))
        code = next((code for word, code in self.exit_codes.items() if word in argv), 0)
        if code == 0 and "install" in argv:
            self.add(*(program for package in argv for program in self.packages.get(package, ())))
        return code


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Debian with apt-get and nothing that Satchel needs, and root at work."""
    for name in ("JAVA_HOME", "CXX", "SATCHEL_NO_INSTALL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("satchel.tools.importlib.util.find_spec", lambda name: None)
    made = Machine(tmp_path)
    made.add("apt-get")
    made.packages = {"maven": ["mvn"], "g++": ["g++", "c++"], "npm": ["npm", "node"]}
    return made


def user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_root_installs_all_that_is_missing_in_one_go_and_says_so_before(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def run(argv: Sequence[str]) -> int:
        said.append(capsys.readouterr().out)
        return machine.run(argv)

    assert need.main(["maven", "cxx", "npm"], run) == 0
    assert machine.commands == [UPDATE, [*INSTALL, "maven", "g++", "npm"]]
    assert said == [
        "Installing maven, g++, npm by apt-get, which can take minutes (SATCHEL_NO_INSTALL=1 only names them)\n",
        "",
    ]


def test_what_is_there_is_not_installed(machine: Machine) -> None:
    machine.add("mvn")
    assert need.main(["maven", "npm"], machine.run) == 0
    assert machine.commands == [UPDATE, [*INSTALL, "npm"]]


def test_nothing_is_run_and_nothing_said_when_nothing_is_missing(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.add("mvn", "g++")
    assert need.main(["maven", "cxx"], machine.run) == 0
    assert machine.commands == []
    assert capsys.readouterr() == ("", "")


def test_a_user_installs_by_sudo_that_asks_for_no_password(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user(monkeypatch)
    machine.add("sudo")
    assert need.main(["maven"], machine.run) == 0
    sudo = ["sudo", "-n"]
    assert machine.commands == [[*sudo, "true"], [*sudo, *UPDATE], [*sudo, *INSTALL, "maven"]]
    assert "Installing maven by sudo -n apt-get" in capsys.readouterr().out


Deny = Callable[[Machine, pytest.MonkeyPatch], object]


def sudo_asks(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    user(monkeypatch)
    machine.add("sudo")
    machine.exit_codes = {"sudo": 1}


def no_apt_get(machine: Machine, _: pytest.MonkeyPatch) -> None:
    (machine.path / "apt-get").unlink()


@pytest.mark.parametrize(
    ("deny", "command", "run"),
    [
        (lambda _, monkeypatch: user(monkeypatch), f"sudo apt-get install {' '.join(PACKAGES)}", []),
        (sudo_asks, f"sudo apt-get install {' '.join(PACKAGES)}", [["sudo", "-n", "true"]]),
        (lambda _, patch: patch.setenv("SATCHEL_NO_INSTALL", "1"), f"apt-get install {' '.join(PACKAGES)}", []),
        (no_apt_get, f"apt-get install {' '.join(PACKAGES)}", []),
        (lambda _, patch: patch.setattr(sys, "platform", "darwin"), "brew install maven gcc temurin node", []),
    ],
    ids=["no-sudo", "sudo-asks", "no-install", "no-apt-get", "mac"],
)
def test_where_nothing_may_be_installed_all_is_named_with_one_command(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    deny: Deny,
    command: str,
    run: list[list[str]],
) -> None:
    deny(machine, monkeypatch)
    assert need.main(ALL, machine.run) == 5
    assert machine.commands == run
    said, errors = capsys.readouterr()
    assert said == ""
    first, *reasons, last = errors.splitlines()
    assert first == "This needs programs that are not here."
    for word in ("`mvn`", "C++ compiler", "Java 17", "`aapt2`", "`apksigner`", "`npm`"):
        assert sum(word in reason for reason in reasons) == 1, word
    assert last.endswith(f"Install them: {command}")


@pytest.mark.parametrize("value", ["", "0"])
def test_an_install_that_is_not_forbidden_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SATCHEL_NO_INSTALL", value)
    assert need.main(["maven"], machine.run) == 0


def test_what_is_missing_after_an_installation_is_said(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.packages["maven"] = ()
    assert need.main(["maven", "npm"], machine.run) == 5
    assert capsys.readouterr().err.splitlines() == [
        "apt-get installed maven, npm, which is not enough.",
        "- The Android library is compiled by Maven, and there is no `mvn` on the PATH.",
        "Install a newer one by hand, and put it first on the PATH (for Java: into JAVA_HOME).",
    ]


def test_a_failed_installation_is_said_with_its_command(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.exit_codes = {"install": 100}
    assert need.main(["maven"], machine.run) == 5
    assert capsys.readouterr().err.splitlines() == [
        "apt-get failed with exit code 100; its errors are above.",
        "Install it: apt-get install maven",
    ]


def test_a_source_that_is_away_does_not_stop_what_the_others_have(machine: Machine) -> None:
    machine.exit_codes = {"update": 100}
    assert need.main(["maven"], machine.run) == 0
    assert machine.commands[-1] == [*INSTALL, "maven"]


def test_a_python_without_ensurepip_gets_the_package_of_its_version(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(argv: Sequence[str]) -> int:
        monkeypatch.undo()  # this Python has it
        return machine.run(argv)

    major, minor = sys.version_info[:2]
    assert need.main(["ensurepip"], run) == 0
    assert machine.commands == [UPDATE, [*INSTALL, f"python{major}.{minor}-venv"]]


def test_the_errors_of_a_program_are_shown_and_its_talk_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    assert need.run_quietly(["sh", "-c", "echo talk; echo wrong >&2; exit 7"]) == 7
    assert capfd.readouterr() == ("", "wrong\n")


def test_every_name_in_the_makefile_is_a_program_that_is_found() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lists = re.findall(r"^NEEDS_\S+ := ([a-z0-9 ]+)$", makefile, re.MULTILINE)
    named = {name for line in lists for name in line.split()}
    assert {"maven", "cxx", "node"} <= named <= set(PROGRAMS)
    assert all(hasattr(Tools, name) for name in PROGRAMS)
