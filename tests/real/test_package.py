"""The real SDK, compiled by Maven: the same bytes wherever it is built, and an app that compiles against it."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import satchel
from satchel.bundle import Bundle
from satchel.cache import Cache
from satchel.console import Console
from satchel.package.aar import android_manifest, write_aar
from satchel.package.android import Coordinates, Packaged, package_android
from satchel.package.maven import Coordinate, Publication, publish
from satchel.package.render import template_files, templates_root
from satchel.package.sdk import compile_sdk
from satchel.tools import Tools

MakeBundle = Callable[..., Bundle]

CONSUMER = Path(__file__).parent / "consumer"


@dataclass(frozen=True)
class Built:
    """One packaging run: its output folder, cache and libraries."""

    out: Path
    cache: Cache
    libraries: list[Packaged]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> Bundle:
    """A bundle of a few bytes: packaging does not look into the program."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, sdk_cache: Cache) -> Built:
    """The libraries of `bundle`, from the SDK that the whole tier shares."""
    return package(bundle, tmp_path_factory.mktemp("built") / "android", sdk_cache, Tools())


def package(bundle: Bundle, out: Path, cache: Cache, tools: Tools, templates: Path | None = None) -> Built:
    libraries = package_android([bundle], out, Coordinates(), cache, tools, Console.quiet(), templates)
    return Built(out, cache, libraries)


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_another_build_in_another_place_is_the_same_bytes(built: Built, bundle: Bundle, tmp_path: Path) -> None:
    templates, checkout = templates_root(), tmp_path / "another" / "checkout"
    for relative in template_files(templates):
        (checkout / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(templates / relative, checkout / relative)
    again = package(bundle, tmp_path / "android", Cache(tmp_path / "cache"), Tools(), checkout)
    assert tree(built.out) == tree(again.out)


def test_a_second_run_needs_neither_maven_nor_java(built: Built, bundle: Bundle, tmp_path: Path) -> None:
    again = package(bundle, tmp_path / "android", built.cache, Tools({"PATH": ""}))
    assert [library.sha256 for library in again.libraries] == [library.sha256 for library in built.libraries]


def test_an_app_compiles_against_the_one_model_dependency(built: Built, tmp_path: Path) -> None:
    repository = tmp_path / "maven"
    shutil.copytree(built.out / "maven", repository)
    publish_stand_in(built.cache, repository, tmp_path)
    app = Path(shutil.copytree(CONSUMER, tmp_path / "app"))
    tools = Tools()
    model = built.libraries[-1].coordinate
    tools.run(
        [
            str(tools.maven),
            "-q",
            "-B",
            "-f",
            str(app / "pom.xml"),
            f"-Dmaven.repo.local={local_repository_without_ours(tools, tmp_path)}",
            f"-Dsatchel.repository={repository.as_uri()}",
            f"-Dmodel.group={model.group}",
            f"-Dmodel.artifact={model.artifact}",
            f"-Dmodel.version={model.version}",
            "-Dkotlin.compiler.daemon=false",
            "compile",
        ],
        env=tools.java_env(),
    )
    assert (app / "target" / "classes" / "dev" / "example" / "app" / "MainActivity.class").is_file()


def local_repository_without_ours(tools: Tools, work: Path) -> Path:
    """The user's local Maven repository, seen through links, without what this test resolves from its own repository:
    neither may an older build of ours be taken from there, nor the stand-in be left there under the real name."""
    ask = ["help:evaluate", "-Dexpression=settings.localRepository", "-DforceStdout"]
    answer = tools.run([str(tools.maven), "-q", "-B", *ask], env=tools.java_env())
    users = Path(answer.strip().splitlines()[-1])
    ours = {"dev": "satchel", "org": "pytorch"}
    view = work / "m2"
    for folder in users.iterdir():
        own = ours.get(folder.name)
        for linked in [folder] if own is None else [child for child in folder.iterdir() if child.name != own]:
            link = view / linked.relative_to(users)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(linked)
    return view


def publish_stand_in(cache: Cache, repository: Path, work: Path) -> None:
    """Put the host stand-in where an app finds the device's runtime: the real one is not on this machine."""
    host = compile_sdk(cache, Tools()).folder / "host" / "lib"
    (classes,) = host.glob("satchel-host-standin-*.jar")
    aar = work / "executorch-android.aar"
    write_aar(aar, manifest=android_manifest("org.pytorch.executorch"), classes_jar=classes, rules=b"")
    coordinate = Coordinate("org.pytorch", "executorch-android", "1.5.0", "aar")
    publish(repository, Publication(coordinate, "Stand-in of the device's runtime.", None, [], aar))


def test_the_sdk_is_small_and_says_its_version(built: Built) -> None:
    sizes = {library.coordinate.artifact: library.bytes for library in built.libraries if library.backend is None}
    assert set(sizes) == {"satchel-core", "satchel-android", "satchel-executorch", "satchel-litert"}
    assert sum(sizes.values()) < 1_000_000
    assert {library.coordinate.version for library in built.libraries} == {satchel.__version__}
