"""Runs a bundle through the Kotlin engine of the Android library, on a desktop JVM.

The classes are the published ones; below them lies a stand-in for the device's runtime, built here over the libraries
of that runtime's Python package. A child process holds the model and answers over its standard input and output.
"""

import importlib.util
import platform
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

import satchel
from satchel.bundle.folder import read_bundle
from satchel.bundle.manifest import DEFAULT_ANDROID_BACKEND
from satchel.cache import Cache
from satchel.errors import InternalError, ToolFailedError, ToolMissingError
from satchel.package.android.sdk import compile_sdk, read_index
from satchel.package.render import render_tree, templates_root, tree_hash
from satchel.runtimes.memory import child_peak
from satchel.tools import Tools, end_process

_SERVER = "dev.satchel.host.EngineServer"
_MAGIC = 0x53415431  # "SAT1"
_GREETING = struct.Struct("<iiii")  # magic, vocab_size, context_length, prefill_chunk
_REQUEST = struct.Struct("<ii")  # number of tokens, position of the first
_INT = struct.Struct("<i")
_STDERR_TAIL = 4000


@dataclass(frozen=True)
class HostEngine:
    """Everything the child process is started from: the SDK's classes, and one backend's runtime below them."""

    class_path: tuple[Path, ...]
    native: Path  # folder of the shared libraries


def build_host_engine(
    cache: Cache, tools: Tools, backend: str = DEFAULT_ANDROID_BACKEND, templates: Path | None = None
) -> HostEngine:
    """Compile the JVM classes and the native library below them, or find both in the cache."""
    templates = templates or templates_root()
    native = build_native(cache, tools, backend, templates)
    return HostEngine(compile_sdk(cache, tools, templates).host_class_path, native)


def open_jvm_engine(bundle: Path, cache: Cache, tools: Tools, threads: int = 1) -> "JvmEngine":
    """The engine of the bundle in the folder `bundle`. One thread by default: two are slower on a busy machine."""
    host = build_host_engine(cache, tools, read_bundle(bundle).manifest.backend)
    return JvmEngine(server_command(host, bundle, tools, threads), tools)


def server_command(host: HostEngine, bundle: Path, tools: Tools, threads: int) -> list[str]:
    """The command line of the child process."""
    return [
        str(tools.java.executable),
        "-Xmx512m",
        f"-Dsatchel.host.dir={host.native}",
        "-cp",
        ":".join(map(str, host.class_path)),
        _SERVER,
        str(bundle),
        "--threads",
        str(threads),
    ]


class JvmEngine:
    """An Engine over the child process; close it when done (it is a context manager)."""

    def __init__(self, command: list[str], tools: Tools) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = tools.start(command, stderr=self._stderr)
        try:
            greeting = _GREETING.unpack(self._read(_GREETING.size))
            magic, self.vocab_size, self.context_length, self.prefill_chunk = greeting
            if magic != _MAGIC:
                raise InternalError(f"The JVM engine answered {magic:#x}, not {_MAGIC:#x}.")
        except BaseException:
            self._end()
            raise

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        """Logits float32 [vocab] after `tokens` int64 [1..prefill_chunk], the first of them at `position`."""
        ids = np.ascontiguousarray(tokens, dtype="<i8")
        try:
            self._stdin.write(_REQUEST.pack(ids.size, position) + ids.tobytes())
            self._stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        (status,) = _INT.unpack(self._read(_INT.size))
        if status != 0:
            (length,) = _INT.unpack(self._read(_INT.size))
            raise ToolFailedError(f"The JVM engine refused a forward: {self._read(length).decode(errors='replace')}")
        return np.frombuffer(self._read(4 * self.vocab_size), dtype="<f4").astype(np.float32)

    def peak_bytes(self) -> int:
        """The most memory that the child process has held so far."""
        return child_peak(self._process.pid)

    def close(self) -> None:
        """End the child process; a second call does nothing."""
        if self._process.poll() is None:
            try:
                self._stdin.write(_REQUEST.pack(0, 0))
                self._stdin.flush()
                self._process.wait(timeout=10)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                pass  # it is ended the hard way below
        self._end()

    def __enter__(self) -> "JvmEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) != size:
            raise self._died()
        return data

    def _died(self) -> ToolFailedError:
        code = self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()[-_STDERR_TAIL:]
        return ToolFailedError(f"The JVM engine ended with code {code}: {said or '(it said nothing)'}")

    def _end(self) -> None:
        end_process(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:  # what was still to be sent to a dead child
                    continue


# --- the native library -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Runtime:
    """The Python package whose libraries the native code is built over, and how CMake is told where they are."""

    package: str
    module: str
    option: str  # the CMake variable
    pattern: str  # what it names, below the module's folder


_RUNTIMES: Mapping[str, _Runtime] = {
    "executorch": _Runtime("executorch", "executorch", "executorch_DIR", "share/cmake"),
    "litert": _Runtime("ai-edge-litert", "ai_edge_litert", "LITERT_LIBRARY", "libLiteRt.*"),
}


def runtime_option(backend: str) -> str:
    """What CMake must be told of the backend's runtime. Raises ToolMissingError if its package is not installed."""
    runtime = _RUNTIMES[backend]
    spec = importlib.util.find_spec(runtime.module)  # the package itself is not imported
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        for found in sorted(Path(location).glob(runtime.pattern)):
            return f"-D{runtime.option}={found}"
    raise ToolMissingError(
        f"The JVM engine runs on the libraries of the package {runtime.package}, which is not installed. "
        f"Install it: make venv (or `pip install 'satchel[{backend}]'`)"
    )


def native_commands(tools: Tools, option: str, source: Path, build: Path) -> list[list[str]]:
    """The two CMake runs: configure, build. `build`/lib then has every library the JVM loads."""
    return [
        [
            str(tools.cmake),
            "-G",
            "Ninja",
            "-S",
            str(source),
            "-B",
            str(build),
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DCMAKE_MAKE_PROGRAM={tools.ninja}",
            f"-DCMAKE_CXX_COMPILER={tools.cxx}",
            option,
            f"-DJAVA_HOME={tools.java.home}",
        ],
        [str(tools.cmake), "--build", str(build)],
    ]


def build_native(
    cache: Cache, tools: Tools, backend: str = DEFAULT_ANDROID_BACKEND, templates: Path | None = None
) -> Path:
    """The folder of the shared libraries below the JVM, compiled or found in the cache."""
    templates = templates or templates_root()
    native = read_index(templates).native[backend]
    option = runtime_option(backend)  # named as missing before anything else is
    package = _RUNTIMES[backend].package
    key = {
        "sources": tree_hash(templates, native),
        package: version(package),
        "machine": f"{platform.system()} {platform.machine()} {_cpu_features()}",
        "satchel": satchel.__version__,
    }

    def compile_native(folder: Path) -> None:
        _compile_native(folder, templates, native, option, tools)

    return cache.get_or_build("host", key, compile_native) / "lib"


def _cpu_features() -> str:
    """What the kernels, compiled for this very processor, may use: a cache moved to another one must not be run."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.processor()
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(("flags", "Features"))), "")


def _compile_native(folder: Path, templates: Path, native: str, option: str, tools: Tools) -> None:
    _ = tools.jdk  # its C headers: named as missing before anything is compiled
    with tempfile.TemporaryDirectory(prefix="satchel-host-") as temporary:
        work = Path(temporary)
        render_tree(templates, work, {"satchel_version": satchel.__version__}, native)
        for command in native_commands(tools, option, work / native, work / "build"):
            tools.run(command)
        shutil.copytree(work / "build" / "lib", folder / "lib")
