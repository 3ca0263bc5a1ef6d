"""R8, as release builds of apps run it, over what an app gets: the rules that the libraries bring keep it working.

Gradle shows R8 the lists of services too, and R8 then renames in them what it renames in the code. Other builds
(Bazel's) keep resources from R8: there each library's rules are needed.
"""

import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satchel.bundle.folder import Bundle
from satchel.cache import Cache
from satchel.errors import ToolFailedError
from satchel.package.android.sdk import CompiledSdk, compile_sdk
from satchel.package.archive import Entry, folder_entries, write_archive
from satchel.runtimes.jvm import HostEngine, JvmEngine, build_host_engine, server_command
from satchel.tools import Tools

StartEngine = Callable[[Sequence[str]], JvmEngine]

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
R8 = "com.android.tools:r8:8.5.35"
ANDROID = "org.robolectric:android-all:15-robolectric-13954326"
BRIEF = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # R8 runs for seconds: the second compiler brings it nothing
SERVICES = "META-INF/services/"
MAINS = ("dev.satchel.host.Chat", "dev.satchel.host.EngineServer")
# What an app calls, and what the runtimes' own libraries keep. The SDK's rules come from its libraries.
APP = [
    *(f"-keep class {main} {{ public static void main(java.lang.String[]); }}" for main in MAINS),
    "-keep public class dev.satchel.android.* { public *; }",
    "-keep class org.pytorch.executorch.** { *; }",
    "-keep class com.google.ai.edge.litert.** { *; }",
]


@pytest.fixture(scope="module")
def jars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with r8.jar and android-all.jar."""
    folder, tools = tmp_path_factory.mktemp("r8"), Tools()
    for artifact in (R8, ANDROID):
        copy = [COPY, f"-Dartifact={artifact}", "-Dmdep.stripVersion=true", f"-DoutputDirectory={folder}"]
        tools.run([str(tools.maven), "-q", "-B", *copy], env=tools.java_env())
    return folder


@pytest.fixture(scope="module")
def sdk(sdk_cache: Cache) -> CompiledSdk:
    return compile_sdk(sdk_cache, Tools())


def library_rules(sdk: CompiledSdk) -> dict[str, str]:
    """proguard.txt of every AAR of the SDK, by its artifact id."""
    libraries = [library for library in sdk.index.libraries if library.packaging == "aar"]
    return {library.artifact: sdk.file(library, "proguard.txt").read_text(encoding="utf-8") for library in libraries}


def shrink(jars: Path, code: Sequence[Path], known: Sequence[Path], rules: Sequence[str], output: Path) -> Path:
    """`output`: what R8 makes of the jars `code`; those in `known` are there at run time."""
    configuration, tools = output.with_suffix(".pro"), Tools()
    configuration.write_text("\n".join([*APP, *rules]), encoding="utf-8")
    libraries = [argument for jar in (tools.java.home, *known) for argument in ("--lib", str(jar))]
    r8 = [str(tools.java.executable), "-Xmx1g", *BRIEF, "-cp", str(jars / "r8.jar"), "com.android.tools.r8.R8"]
    options = ["--classfile", "--release", "--pg-conf", str(configuration), "--output", str(output)]
    tools.run([*r8, *options, *libraries, *map(str, code)])
    return output


def mains_jar(sdk: CompiledSdk, folder: Path) -> Path:
    write_archive(folder / "mains.jar", folder_entries(sdk.host_class_path[0]))
    return folder / "mains.jar"


@pytest.fixture(scope="module")
def shrunk(jars: Path, sdk: CompiledSdk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SDK, its mains and all they need in one jar, shrunk and with short names."""
    folder = tmp_path_factory.mktemp("shrunk")
    (android,) = (sdk.file(library, "classes.jar") for library in sdk.index.libraries if library.namespace == "android")
    code = [mains_jar(sdk, folder), android, *sdk.host_class_path[1:]]
    rules = list(library_rules(sdk).values())
    return shrink(jars, code, [jars / "android-all.jar"], rules, folder / "shrunk.jar")


def test_it_is_much_smaller(shrunk: Path, sdk: CompiledSdk) -> None:
    """So R8 did its work, and what follows means something."""
    before = sum(path.stat().st_size for path in sdk.host_class_path if path.is_file())
    assert shrunk.stat().st_size < before / 4


def on_shrunk(host: HostEngine, *class_path: Path) -> HostEngine:
    return replace(host, class_path=class_path)


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


# --- each rule, where R8 does not see the lists of services -------------------------------------------------------


def without_services(jars: Sequence[Path], folder: Path) -> tuple[list[Path], Path]:
    """Copies of `jars` without their lists of services, and the jar of those lists."""
    classes: list[Path] = []
    services: dict[str, bytes] = {}
    for number, jar in enumerate(jars):
        with zipfile.ZipFile(jar) as opened:
            files = {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}
        for name in [name for name in files if name.startswith(SERVICES)]:
            services[name] = services.get(name, b"") + files.pop(name).rstrip() + b"\n"
        classes.append(folder / f"{number}.jar")
        write_archive(classes[-1], [Entry(name, content) for name, content in files.items()])
    write_archive(folder / "services.jar", [Entry(name, content) for name, content in services.items()])
    return classes, folder / "services.jar"


@pytest.fixture
def start(jars: Path, sdk: CompiledSdk, litert_bundle: Bundle, sdk_cache: Cache, tmp_path: Path) -> StartEngine:
    """start(rules): the LiteRT engine, found by its name among our own code, which R8 shrank by `rules` alone."""
    ours = [jar for jar in sdk.host_class_path[1:] if "satchel" in jar.name]
    others = [jar for jar in sdk.host_class_path[1:] if jar not in ours]
    code, services = without_services([mains_jar(sdk, tmp_path), *ours], tmp_path)

    def start(rules: Sequence[str]) -> JvmEngine:
        small = shrink(jars, code, others, rules, tmp_path / "small.jar")
        host = on_shrunk(build_host_engine(sdk_cache, Tools(), "litert"), small, services, *others)
        return JvmEngine(server_command(host, litert_bundle.path, Tools(), threads=1), Tools())

    return start


def test_the_rules_of_all_libraries_are_enough(start: StartEngine, sdk: CompiledSdk) -> None:
    with start([*library_rules(sdk).values()]) as engine:
        assert np.isfinite(engine.forward(np.array([1, 2, 3]), 0)).all()


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ("satchel-android", "No engine for litert"),
        ("satchel-executorch", "ExecuTorchEngineFactory not found"),
        ("satchel-litert", "LiteRtEngineFactory not found"),
    ],
)
def test_the_rules_of_each_library_are_needed(start: StartEngine, sdk: CompiledSdk, left_out: str, said: str) -> None:
    with pytest.raises(ToolFailedError, match=said):
        start([rules for library, rules in library_rules(sdk).items() if library != left_out])
