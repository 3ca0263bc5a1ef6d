"""Run the fast tier on every other Python that pyproject.toml promises, all at once (make test-pythons).

Each has an environment of its own with the locked packages of the light core and of the tests, and no PyTorch. Its
interpreter is the PATH's; where there is none, Maven fetches a whole one, which JavaCPP publishes for Java programs
that embed Python. A version that can't be had is an error: what is promised is tested.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from satchel.hashing import file_sha256
from satchel.tools import Tools

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv" / "pythons"
LOCKS = [ROOT / "requirements" / f"{name}.txt" for name in ("build", "base", "dev")]
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
# For Linux on x86-64, with glibc 2.35: version of org.bytedeco:cpython and the hash of its jar.
PINS = {
    "3.11": ("3.11.3-1.5.9", "668b42f6a8b1a9789de7d3ca54a81fefb754cd8e885554b42858bbcbc0dd497c"),
    "3.12": ("3.12.1-1.5.10", "a135fcf4dc01adebf7ea439252276fc3196db80f7e0dd3da0b61f1ec489b68bd"),
    "3.13": ("3.13.5-1.5.12", "50ad91aa0baa57f0235bb666b87d8bf2a44e215d28c250de1030502906af143b"),
}


def promised() -> list[str]:
    """The versions of `requires-python`, as in 3.12."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest, first_not = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()  # type: ignore[union-attr]
    return [f"3.{minor}" for minor in range(int(oldest), int(first_not))]


def interpreter(version: str) -> Path:
    """A Python of this version that can make environments."""
    on_path = shutil.which(f"python{version}")
    if on_path is not None and works(Path(on_path)):
        return Path(on_path)
    folder = HOME / version / "interpreter"
    fetched = folder / "org" / "bytedeco" / "cpython" / "linux-x86_64" / "bin" / f"python{version}"
    if not works(fetched):
        shutil.rmtree(folder, ignore_errors=True)
        fetch(version, folder)
    if not works(fetched):
        raise SystemExit(f"Python {version} is promised by pyproject.toml and can't be tested: install python{version}")
    return fetched


def works(python: Path) -> bool:
    """False for a file that is not there, and for one that only says how to get the real one."""
    command = [str(python), "-c", "import ctypes, ensurepip, ssl, venv"]
    return python.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def fetch(version: str, folder: Path) -> None:
    pin, sha256 = PINS[version]
    tools = Tools()
    copy = [COPY, f"-Dartifact=org.bytedeco:cpython:{pin}:jar:linux-x86_64", f"-DoutputDirectory={folder}"]
    tools.run([str(tools.maven), "-q", "-B", *copy], env=tools.java_env())
    (jar,) = folder.glob("*.jar")
    if file_sha256(jar) != sha256:
        raise SystemExit(f"{jar.name} is not the archive that was pinned")
    with zipfile.ZipFile(jar) as archive:
        archive.extractall(folder)
    jar.unlink()
    root = folder / "org" / "bytedeco" / "cpython" / "linux-x86_64"
    for program in (root / "bin").iterdir():
        program.chmod(0o755)
    for library in root.glob("libffi.so.*"):  # where the module that needs it looks
        shutil.copy(library, root / "lib" / f"python{version}")


def environment(version: str) -> Path:
    """The Python of an environment with the locked packages and this checkout's Satchel; made anew for new locks."""
    folder, python = HOME / version / "environment", HOME / version / "environment" / "bin" / "python"
    stamp, locked = folder / "locked", hashlib.sha256(b"".join(path.read_bytes() for path in LOCKS)).hexdigest()
    if works(python) and stamp.exists() and stamp.read_text() == locked:
        return python
    subprocess.run([interpreter(version), "-m", "venv", "--clear", folder], check=True)
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--no-deps",
    ]
    hashed = [argument for path in LOCKS for argument in ("--requirement", str(path))]
    subprocess.run([*install, "--require-hashes", *hashed], check=True)
    subprocess.run([*install, "--no-build-isolation", "--editable", str(ROOT)], check=True)
    stamp.write_text(locked)
    return python


def fast_tier(version: str) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(environment(version)), "-m", "pytest", "tests/fast", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def main() -> None:
    others = [version for version in promised() if version != f"3.{sys.version_info.minor}"]
    with ThreadPoolExecutor() as pool:
        runs = dict(zip(others, pool.map(fast_tier, others), strict=True))
    for version, run in runs.items():
        print(f"Python {version}: {run.stdout.splitlines()[-1]}" if not run.returncode else run.stdout + run.stderr)
    if failed := [version for version, run in runs.items() if run.returncode]:
        raise SystemExit(f"the fast tier fails on Python {' and '.join(failed)}")


if __name__ == "__main__":
    main()
