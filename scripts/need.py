"""Bring what make targets need and pip can't install: `python3 scripts/need.py maven cxx` (names of tools.PROGRAMS).

On Debian and Ubuntu apt-get installs all that is missing in one go, as root or with `sudo -n`. Where that can't be, and
with SATCHEL_NO_INSTALL=1, all of it is named with one command that installs it. Runs before anything is installed:
standard library only.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "exporter"))

from satchel.errors import ProgramMissingError
from satchel.tools import Tools, install_hint, package_manager, packages

BY_HAND = "Install a newer one by hand, and put it first on the PATH (for Java: into JAVA_HOME)."

Run = Callable[[Sequence[str]], int]


def run_quietly(argv: Sequence[str]) -> int:
    """Run to the end and return the exit code. Only its errors are shown: apt-get tells of every package it unpacks."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False).returncode


def main(names: Sequence[str], run: Run = run_quietly) -> int:
    """The exit code: 0 if all the programs are there, else 5."""
    lacking = missing(names)
    if not lacking:
        return 0
    administrator = as_administrator(run)
    if administrator is None:
        return _fail("This needs programs that are not here.", lacking.values(), install_hint(lacking))
    wanted = packages(lacking, "apt")
    by = " ".join([*administrator, "apt-get"])
    print(
        f"Installing {', '.join(wanted)} by {by}, which can take minutes (SATCHEL_NO_INSTALL=1 only names them)",
        flush=True,
    )
    failed = install(administrator, wanted, run)
    if failed:
        return _fail(f"{by} failed with exit code {failed}; its errors are above.", [], install_hint(lacking))
    if lacking := missing(names):
        return _fail(f"{by} installed {', '.join(wanted)}, which is not enough.", lacking.values(), BY_HAND)
    return 0


def missing(names: Iterable[str]) -> dict[str, str]:
    """What is not here, each with the reason why it counts as missing."""
    tools = Tools()
    reasons: dict[str, str] = {}
    for name in names:
        try:
            getattr(tools, name)
        except ProgramMissingError as error:
            reasons[name] = error.reason
    return reasons


def as_administrator(run: Run) -> list[str] | None:
    """What apt-get's command begins with: nothing for root, else `sudo -n`. None: there is no apt-get, the user wants
    nothing installed, or sudo would ask for a password."""
    refused = os.environ.get("SATCHEL_NO_INSTALL", "0") not in ("", "0")
    if refused or package_manager() != "apt" or shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    return sudo if shutil.which("sudo") is not None and run([*sudo, "true"]) == 0 else None


def install(administrator: Sequence[str], wanted: Sequence[str], run: Run) -> int:
    """The exit code of apt-get. It asks nothing, and waits for the lock that a new machine's own updates hold."""
    run([*administrator, "apt-get", "update", "-qq"])  # a source that fails may be another's: the installation tells
    asking_nothing = [*administrator, "env", "DEBIAN_FRONTEND=noninteractive"]
    options = ["-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"]
    return run([*asking_nothing, "apt-get", "install", *options, *wanted])


def _fail(what: str, reasons: Iterable[str], remedy: str = "") -> int:
    lines = [what, *(f"- {reason}" for reason in dict.fromkeys(reasons)), remedy]
    print("\n".join(filter(None, lines)), file=sys.stderr)
    return ProgramMissingError.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
