"""The real SDK, compiled by Maven, and an app that compiles against it.

That it is the same bytes wherever it is compiled, scripts/tested_classes.py shows.
"""

import io
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import satchel
from class_files import too_new_for_an_app
from satchel.bundle.folder import Bundle
from satchel.cache import Cache
from satchel.console import Console
from satchel.package.android.aar import android_manifest, write_aar
from satchel.package.android.check import REQUIRED
from satchel.package.android.libraries import Coordinates, Packaged, package_android
from satchel.package.android.maven import Coordinate, Publication, publish
from satchel.package.android.sdk import compile_sdk
from satchel.package.render import templates_root
from satchel.tools import Tools

MakeBundle = Callable[..., Bundle]

CONSUMER = Path(__file__).parent / "consumer"
GUIDE = templates_root() / "android/android/src/test/kotlin/dev/example/app/GuideSnippets.kt"
OLDEST_KOTLIN, OUR_KOTLIN = "2.2.0", "2.4.0"


@dataclass(frozen=True)
class Built:
    """One packaging run: its output folder, cache and libraries."""

    out: Path
    cache: Cache
    libraries: list[Packaged]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> list[Bundle]:
    """A bundle per backend, of a few bytes: packaging does not look into the program."""
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / backend, backend=backend) for backend in ("executorch", "litert")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, bundles: list[Bundle], sdk_cache: Cache) -> Built:
    """The libraries of `bundles`, from the SDK that the whole tier shares."""
    return package(bundles, tmp_path_factory.mktemp("built") / "android", sdk_cache, Tools())


def package(bundles: list[Bundle], out: Path, cache: Cache, tools: Tools) -> Built:
    libraries = package_android(bundles, out, Coordinates(), cache, tools, Console.quiet())
    return Built(out, cache, libraries)


def test_a_second_run_needs_neither_maven_nor_java(built: Built, bundles: list[Bundle], tmp_path: Path) -> None:
    again = package(bundles, tmp_path / "android", built.cache, Tools({"PATH": ""}))
    assert [library.sha256 for library in again.libraries] == [library.sha256 for library in built.libraries]


@pytest.fixture(scope="module")
def repository(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an app resolves from: our libraries, and the host stand-in under the names of the devices' runtimes, which
    are not on this machine."""
    work = tmp_path_factory.mktemp("repository")
    repository = Path(shutil.copytree(built.out / "maven", work / "maven"))
    sdk = compile_sdk(built.cache, Tools())
    (classes,) = (sdk.folder / "host" / "lib").glob("satchel-host-standin-*.jar")
    for engine in sdk.index.engines.values():
        (library,) = (library for library in sdk.index.libraries if library.artifact == engine)
        (runtime,) = (name for name in library.dependencies if name.endswith("@aar"))
        group, artifact, version = runtime.removesuffix("@aar").split(":")
        aar = work / f"{artifact}.aar"
        write_aar(aar, manifest=android_manifest(group), classes_jar=classes, rules=b"")
        coordinate = Coordinate(group, artifact, version, "aar")
        publish(repository, Publication(coordinate, "Stand-in of the device's runtime.", None, [], aar))
    return repository


@pytest.fixture(scope="module")
def local_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's local Maven repository, seen through links, without what these tests resolve from their own: neither
    may an older build of ours be taken from there, nor a stand-in be left there under the real name."""
    tools = Tools()
    ask = ["help:evaluate", "-Dexpression=settings.localRepository", "-DforceStdout"]
    answer = tools.run([str(tools.maven), "-q", "-B", *ask], env=tools.java_env())
    view = tmp_path_factory.mktemp("m2")
    link_all_but(Path(answer.strip().splitlines()[-1]), view, ("dev/satchel", "org/pytorch", "com/google/ai/edge"))
    return view


def link_all_but(source: Path, target: Path, hidden: tuple[str, ...]) -> None:
    """Links to the children of `source`; a folder on the way to a `hidden` one is a real folder with such links."""
    for child in source.iterdir():
        below = tuple(path.removeprefix(f"{child.name}/") for path in hidden if path.startswith(f"{child.name}/"))
        if below:
            (target / child.name).mkdir()
            link_all_but(child, target / child.name, below)
        elif child.name not in hidden:
            (target / child.name).symlink_to(child)


@pytest.mark.parametrize(
    ("backend", "kotlin"), [("executorch", OLDEST_KOTLIN), ("litert", OLDEST_KOTLIN), ("executorch", OUR_KOTLIN)]
)
def test_an_app_compiles_against_the_one_model_dependency(
    built: Built, repository: Path, local_repository: Path, tmp_path: Path, backend: str, kotlin: str
) -> None:
    (model,) = (library.coordinate for library in built.libraries if library.backend == backend)
    app, tools = Path(shutil.copytree(CONSUMER, tmp_path / "app")), Tools()
    shutil.copy(GUIDE, app / "src" / "main" / "kotlin")
    maven = [
        *(str(tools.maven), "-q", "-B", "-f", str(app / "pom.xml"), "-Dkotlin.compiler.daemon=false"),
        f"-Dmaven.repo.local={local_repository}",
        f"-Dsatchel.repository={repository.as_uri()}",
        f"-Dmodel.artifact={model.artifact}",
        f"-Dmodel.version={model.version}",
        f"-Dkotlin.version={kotlin}",
    ]
    tools.run([*maven, "generate-sources"], env=tools.java_env())
    aars = sorted((app / "target" / "aars").glob("*.aar"))
    ours = [aar.name for aar in aars if "satchel" in aar.name]
    assert ours == [f"satchel-android-{model.version}.aar", f"satchel-{backend}-{model.version}.aar"]
    class_path = [(app / "target" / "jars.txt").read_text(encoding="utf-8")]
    for aar in aars:
        with zipfile.ZipFile(aar) as archive:
            class_path.append(archive.extract("classes.jar", app / "target" / aar.stem))
    tools.run([*maven, "kotlin:compile@app", f"-Dclass.path={':'.join(class_path)}"], env=tools.java_env())
    compiled = {file.name for file in (app / "target" / "classes").rglob("*.class")}
    assert {"MainActivity.class", "GuideSnippetsKt.class"} <= compiled


def test_libraries_have_what_belongs_there_and_no_two_the_same_class(built: Built) -> None:
    """An app whose libraries share a class does not build."""
    owners: dict[str, str] = {}
    for library in built.libraries:
        with zipfile.ZipFile(library.file) as archive:
            names = set(archive.namelist())
            if library.coordinate.packaging == "aar":
                bundle = f"assets/satchel/{library.coordinate.artifact}/"
                strays = {name for name in names - {*REQUIRED} if library.backend is None or bundle not in name}
                assert not strays, f"{library.file.name} also has {strays}"
                names = set(zipfile.ZipFile(io.BytesIO(archive.read("classes.jar"))).namelist())
        for name in names:
            if name.endswith(".class"):
                assert owners.setdefault(name, library.coordinate.artifact) == library.coordinate.artifact, name
            else:
                assert name.startswith("META-INF/"), f"{library.file.name} also has {name}"
    assert len(set(owners.values())) == 4  # models have no classes


def test_an_app_on_kotlin_2_2_and_java_11_can_read_every_class(built: Built) -> None:
    """Only the SDK's own sources and its compiler's settings change this, so no build of a model looks at it again."""
    for library in built.libraries:
        if library.backend is None:
            jar = library.file.read_bytes()
            if library.coordinate.packaging == "aar":
                jar = zipfile.ZipFile(io.BytesIO(jar)).read("classes.jar")
            assert list(too_new_for_an_app(jar)) == [], library.file.name


def test_the_sdk_is_small_and_says_its_version(built: Built) -> None:
    sizes = {library.coordinate.artifact: library.bytes for library in built.libraries if library.backend is None}
    assert set(sizes) == {"satchel-core", "satchel-android", "satchel-executorch", "satchel-litert"}
    assert sum(sizes.values()) < 1_000_000
    assert {library.coordinate.version for library in built.libraries} == {satchel.__version__}
