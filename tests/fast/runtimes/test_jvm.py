"""The protocol with the JVM child process, spoken here by a few lines of Python in its place."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satchel.cache import Cache
from satchel.errors import InternalError, ToolFailedError, ToolMissingError
from satchel.runtimes import jvm
from satchel.runtimes.jvm import HostEngine, JvmEngine, server_command
from satchel.tools import Java, Tools

# Logits [8] = position + token sum, dying at position 66 and refusing position 77.
SERVER = """
import struct, sys
read, out = sys.stdin.buffer.read, sys.stdout.buffer
out.write(struct.pack("<iiii", MAGIC, 8, 2048, 64)); out.flush()
while True:
    n, position = struct.unpack("<ii", read(8))
    if n == 0:
        sys.exit(0)
    tokens = struct.unpack(f"<{n}q", read(8 * n))
    if position == 66:
        sys.exit("out of memory")
    if position == 77:
        text = "position 77 is past the end".encode()
        out.write(struct.pack("<ii", 1, len(text)) + text)
    else:
        out.write(struct.pack("<i8f", 0, *(position + sum(tokens) + i for i in range(8))))
    out.flush()
"""


def engine(script: str = SERVER, magic: int = 0x53415431) -> JvmEngine:
    return JvmEngine([sys.executable, "-c", f"MAGIC = {magic}\n{script}"], Tools())


def tokens(*ids: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(ids, np.int64)


def test_forward_is_one_question_and_one_answer() -> None:
    with engine() as model:
        assert (model.vocab_size, model.context_length, model.prefill_chunk) == (8, 2048, 64)
        logits = model.forward(tokens(1, 2, 3), 100)
        assert logits.dtype == np.float32
        assert logits.tolist() == [106, 107, 108, 109, 110, 111, 112, 113]
        logits[0] = 0.0  # the caller's own
        assert model.forward(tokens(5), 0)[0] == 5


def test_close_lets_the_server_end_by_itself_and_may_be_called_twice() -> None:
    model = engine()
    model.close()
    assert model._process.returncode == 0
    model.close()


def test_a_refused_forward_is_quoted_and_the_engine_goes_on() -> None:
    with engine() as model:
        with pytest.raises(ToolFailedError, match="position 77 is past the end"):
            model.forward(tokens(1), 77)
        assert model.forward(tokens(1), 0)[0] == 1


def test_a_dead_server_is_quoted() -> None:
    with engine() as model, pytest.raises(ToolFailedError, match="ended with code 1: out of memory"):
        model.forward(tokens(1), 66)
    with pytest.raises(ToolFailedError, match="ended with code 3: no bundle here"):
        engine("import sys; print('no bundle here', file=sys.stderr); sys.exit(3)")


def test_another_protocol_is_refused() -> None:
    with pytest.raises(InternalError, match="answered 0x31415926"):
        engine(magic=0x31415926)


class FakeTools(Tools):
    """Every program is there; what is run is recorded, and the native build leaves one library."""

    def __init__(self, java_home: Path) -> None:
        super().__init__({"PATH": ""})
        self.__dict__.update(
            java=Java(java_home, 17, "17.0.1"), cmake=Path("/bin/cmake"), ninja=Path("/bin/ninja"), cxx=Path("/bin/c++")
        )
        self.commands: list[list[str]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> str:
        self.commands.append(list(argv))
        if "--build" in argv:
            lib = Path(argv[-1]) / "lib"
            lib.mkdir(parents=True)
            (lib / "libhost.so").write_bytes(b"elf")
        return ""


def test_the_child_is_started_with_the_published_classes(tmp_path: Path) -> None:
    host = HostEngine((Path("/sdk/classes"), Path("/sdk/kotlin.jar")), Path("/host/lib"))
    assert server_command(host, Path("build/bundle/executorch"), FakeTools(tmp_path), 2) == [
        str(tmp_path / "bin" / "java"),
        "-Xmx512m",
        "-Dsatchel.host.dir=/host/lib",
        "-cp",
        "/sdk/classes:/sdk/kotlin.jar",
        "dev.satchel.host.EngineServer",
        "build/bundle/executorch",
        "--threads",
        "2",
    ]


@pytest.fixture
def native_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "templates"
    (root / "native").mkdir(parents=True)
    (root / "native" / "CMakeLists.txt").write_text("project(native)")
    (root / "libraries.toml").write_text(
        'library = []\n[engines]\n[build]\nsources = []\nhost_module = "jvm"\n[native]\nlitert = "native"\n'
    )
    monkeypatch.setattr(jvm, "runtime_option", lambda backend: f"-D{backend}=/site/{backend}")
    monkeypatch.setattr(jvm, "version", lambda package: "1.5.1")
    return root


def test_the_native_library_is_built_once(tmp_path: Path, native_templates: Path) -> None:
    (tmp_path / "jdk" / "include").mkdir(parents=True)
    (tmp_path / "jdk" / "include" / "jni.h").write_text("")
    tools, cache = FakeTools(tmp_path / "jdk"), Cache(tmp_path / "cache")
    lib = jvm.build_native(cache, tools, "litert", native_templates)
    assert [file.name for file in lib.iterdir()] == ["libhost.so"]
    configure, build = tools.commands
    source, binary = configure[4], configure[6]
    assert configure == [
        "/bin/cmake",
        "-G",
        "Ninja",
        "-S",
        source,
        "-B",
        binary,
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_MAKE_PROGRAM=/bin/ninja",
        "-DCMAKE_CXX_COMPILER=/bin/c++",
        "-Dlitert=/site/litert",
        f"-DJAVA_HOME={tmp_path / 'jdk'}",
    ]
    assert build == ["/bin/cmake", "--build", binary]
    assert jvm.build_native(cache, tools, "litert", native_templates) == lib
    assert len(tools.commands) == 2


def test_a_java_without_headers_is_named(tmp_path: Path, native_templates: Path) -> None:
    with pytest.raises(ToolMissingError, match=r"JDK with C headers.*default-jdk-headless|openjdk|java-devel"):
        jvm.build_native(Cache(tmp_path / "cache"), FakeTools(tmp_path / "jre"), "litert", native_templates)


@pytest.mark.parametrize(
    ("backend", "package"), [("executorch", "executorch"), ("litert", "ai-edge-litert")], ids=["executorch", "litert"]
)
def test_a_runtime_that_is_not_installed_is_named(backend: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jvm.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ToolMissingError, match=rf"package {package}, which is not installed.*satchel\[{backend}\]"):
        jvm.runtime_option(backend)
