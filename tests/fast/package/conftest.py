"""A tiny SDK to package: templates of a few bytes, and a Maven that compiles them to class files in no time."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from satchel.tools import Java, Tools

LIBRARIES = """
[build]
sources = ["pom.xml", "core", "engine", "jvm"]
host_module = "jvm"

[native]
executorch = "native"

[engines]
executorch = "satchel-engine"
litert = "satchel-engine"

[[library]]
artifact = "satchel-core"
packaging = "jar"
module = "core"
description = "The core."
dependencies = ["org.jetbrains.kotlin:kotlin-stdlib:2.2.0"]

[[library]]
artifact = "satchel-engine"
packaging = "aar"
module = "engine"
namespace = "engine"
description = "The engine & more."
dependencies = ["satchel-core", "org.pytorch:executorch-android:1.5.0@aar"]
"""

ANDROID_MANIFEST = """<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="a.b">
    <application android:extractNativeLibs="false"/>
</manifest>"""


def class_bytes(kotlin: tuple[int, ...] | None = (2, 2, 0), major: int = 55) -> bytes:
    """A class file (JVMS 4.1) with a field-less, method-less class and, if asked, kotlin.Metadata's version."""
    texts = ["A", "java/lang/Object", "RuntimeVisibleAnnotations", "Lkotlin/Metadata;", "k", "mv"]
    pool = b"".join(b"\x01" + struct.pack(">H", len(text)) + text.encode() for text in texts)
    pool += b"\x07\x00\x01\x07\x00\x02"  # constants 7 and 8: the class and its super class
    pool += b"\x05" + bytes(8)  # constant 9, a long: takes two slots, so the next one is 11
    numbers = (1, *(kotlin or ()))
    pool += b"".join(b"\x03" + struct.pack(">i", number) for number in numbers)
    count = 11 + len(numbers)
    attributes = struct.pack(">H", 0)
    if kotlin is not None:
        values = b"".join(b"I" + struct.pack(">H", 12 + index) for index in range(len(kotlin)))
        metadata = struct.pack(">HH", 4, 2)  # kotlin.Metadata with two elements: k, mv
        metadata += struct.pack(">HcH", 5, b"I", 11) + struct.pack(">HcH", 6, b"[", len(kotlin)) + values
        body = struct.pack(">H", 1) + metadata
        attributes = struct.pack(">HHI", 1, 3, len(body)) + body
    header = struct.pack(">IHHH", 0xCAFEBABE, 0, major, count)
    return header + pool + struct.pack(">HHHHHH", 0x21, 7, 8, 0, 0, 0) + attributes


class FakeMaven(Tools):
    """Compiles each .kt file to one class file; records every command it was given."""

    def __init__(self) -> None:
        super().__init__({"PATH": ""})
        self.__dict__["maven"] = Path("/opt/maven/bin/mvn")
        self.__dict__["java"] = Java(Path("/opt/jdk"), 17, "17.0.1")
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
        project = Path(argv[argv.index("-f") + 1]).parent
        for module in ("core", "engine", "jvm"):
            classes = project / module / "target" / "classes"
            for source in (project / module).rglob("*.kt"):
                (classes / "dev").mkdir(parents=True, exist_ok=True)
                (classes / "dev" / f"{source.stem}.class").write_bytes(class_bytes())
        services = project / "engine" / "target" / "classes" / "META-INF" / "services"
        services.mkdir(parents=True)
        (services / "dev.Engine").write_text("dev.Engine\n")
        (project / "jvm" / "target" / "lib").mkdir()
        (project / "jvm" / "target" / "lib" / "kotlin.jar").write_bytes(b"jar")
        return ""


def write_templates(root: Path) -> Path:
    """The templates of the tiny SDK in the folder `root`."""
    files = {
        "libraries.toml": LIBRARIES,
        "pom.xml": "<project/>",
        "core/src/main/kotlin/Core.kt": "class Core",
        "core/src/main/kotlin/Version.kt.jinja": 'const val VERSION = "{{ satchel_version }}"',
        "core/src/test/kotlin/CoreTest.kt": "class CoreTest",
        "engine/src/main/kotlin/Engine.kt": "class Engine",
        "engine/src/main/AndroidManifest.xml": ANDROID_MANIFEST,
        "engine/consumer-rules.pro": "-keep class dev.Engine { *; }",
        "jvm/src/main/kotlin/Server.kt": "class Server",
        "native/CMakeLists.txt": "project(native)",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    return write_templates(tmp_path / "templates")


@pytest.fixture
def maven() -> FakeMaven:
    return FakeMaven()


@pytest.fixture
def make_class() -> Callable[..., bytes]:
    """make_class(kotlin=(2, 2, 0) | None, major=55): the bytes of a class file."""
    return class_bytes
