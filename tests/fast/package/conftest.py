"""A tiny SDK to package: templates of a few bytes, and a Maven that compiles them to class files in no time."""

from collections.abc import Mapping, Sequence
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
                (classes / "dev" / f"{source.stem}.class").write_bytes(b"class")
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
