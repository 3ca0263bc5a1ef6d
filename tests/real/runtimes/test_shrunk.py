"""R8, as release builds of apps run it, over what an app gets: the rules that the libraries bring keep it working."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satchel.bundle import Bundle
from satchel.cache import Cache
from satchel.package.archive import folder_entries, write_archive
from satchel.package.sdk import compile_sdk
from satchel.runtimes.jvm import HostEngine, JvmEngine, build_host_engine, server_command
from satchel.tools import Tools

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
R8 = "com.android.tools:r8:8.5.35"
ANDROID = "org.robolectric:android-all:15-robolectric-13954326"
MAINS = ("dev.satchel.host.Chat", "dev.satchel.host.EngineServer")
# What an app calls, and what the runtimes' own libraries keep. The SDK's rules come from its libraries.
APP = [
    *(f"-keep class {main} {{ public static void main(java.lang.String[]); }}" for main in MAINS),
    "-keep public class dev.satchel.android.* { public *; }",
    "-keep class org.pytorch.executorch.** { *; }",
    "-keep class com.google.ai.edge.litert.** { *; }",
]


@pytest.fixture(scope="module")
def shrunk(sdk_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SDK, its mains and all they need in one jar, shrunk and with short names."""
    folder, tools = tmp_path_factory.mktemp("shrunk"), Tools()
    for artifact in (R8, ANDROID):
        copy = [COPY, f"-Dartifact={artifact}", "-Dmdep.stripVersion=true", f"-DoutputDirectory={folder}"]
        tools.run([str(tools.maven), "-q", "-B", *copy], env=tools.java_env())
    sdk = compile_sdk(sdk_cache, tools)
    libraries = [library for library in sdk.index.libraries if library.packaging == "aar"]
    rules = [sdk.file(library, "proguard.txt").read_text(encoding="utf-8") for library in libraries]
    (folder / "rules.pro").write_text("\n".join([*APP, *rules]), encoding="utf-8")
    write_archive(folder / "mains.jar", folder_entries(sdk.host_class_path[0]))
    (android,) = (sdk.file(library, "classes.jar") for library in libraries if library.artifact == "satchel-android")
    tools.run(
        [
            *(str(tools.java.executable), "-Xmx1g", "-cp", str(folder / "r8.jar"), "com.android.tools.r8.R8"),
            *("--classfile", "--release", "--output", str(folder / "shrunk.jar")),
            *("--lib", str(tools.java.home), "--lib", str(folder / "android-all.jar")),
            *("--pg-conf", str(folder / "rules.pro")),
            *map(str, (folder / "mains.jar", android, *sdk.host_class_path[1:])),
        ]
    )
    return folder / "shrunk.jar"


def test_it_is_much_smaller(shrunk: Path, sdk_cache: Cache) -> None:
    """So R8 did its work, and what follows means something."""
    before = sum(path.stat().st_size for path in compile_sdk(sdk_cache, Tools()).host_class_path if path.is_file())
    assert shrunk.stat().st_size < before / 4


def on_shrunk(host: HostEngine, shrunk: Path) -> HostEngine:
    return replace(host, class_path=(shrunk,))


@pytest.fixture
def engines(shrunk: Path, litert_bundle: Bundle, sdk_cache: Cache) -> Iterator[tuple[JvmEngine, JvmEngine]]:
    host = build_host_engine(sdk_cache, Tools(), "litert")
    command = server_command(host, litert_bundle.path, Tools(), threads=1)
    small = server_command(on_shrunk(host, shrunk), litert_bundle.path, Tools(), threads=1)
    with JvmEngine(command, Tools()) as whole, JvmEngine(small, Tools()) as part:
        yield whole, part


def test_the_litert_engine_is_found_and_gives_the_same_logits(engines: tuple[JvmEngine, JvmEngine]) -> None:
    whole, part = engines
    tokens = np.random.default_rng(3).integers(0, whole.vocab_size, 20)
    for start, end in ((0, 12), (12, 13), (13, 20)):
        np.testing.assert_array_equal(part.forward(tokens[start:end], start), whole.forward(tokens[start:end], start))


def test_the_real_model_answers_the_same(shrunk: Path, default_build: Path, sdk_cache: Cache) -> None:
    host = build_host_engine(sdk_cache, Tools(), "executorch")

    def chat(engine: HostEngine) -> str:
        command = server_command(engine, default_build / "bundle" / "executorch", Tools(), threads=1)
        java = command[: command.index("dev.satchel.host.EngineServer")]
        bundle, *options = command[len(java) + 1], "What is the capital of France?", "--max-tokens", "16"
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        run = subprocess.run([*java, MAINS[0], bundle, *options], env=environment, check=True, capture_output=True)
        return run.stdout.decode()

    answer = chat(on_shrunk(host, shrunk))
    assert "Paris" in answer
    assert answer == chat(host)
