"""Bundles to Android libraries: a Maven repository folder, and the model libraries beside it.

The SDK and the models are separate libraries: two models in one app share one SDK, and an SDK fix needs no new model.
An app developer adds one line, the model's; its POM names the engine, and the engine's the rest.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import satchel
from satchel.bundle.folder import Bundle, verify_bundle
from satchel.bundle.manifest import MANIFEST
from satchel.cache import Cache
from satchel.console import Console
from satchel.errors import NotBuiltYetError, UsageError
from satchel.hashing import file_sha256
from satchel.package.android.aar import android_manifest, rename_manifest, write_aar, write_empty_classes
from satchel.package.android.check import Budget, check_aar, check_jar
from satchel.package.android.maven import Coordinate, Publication, publish
from satchel.package.android.sdk import CompiledSdk, Library, compile_sdk
from satchel.package.archive import Entry
from satchel.tools import Tools

REPOSITORY = "maven"
UNPROVEN = "-unproven"
SDK_LICENSE = "Apache-2.0"

# Files that no app reads: the source of tokenizer.bin, where each tensor lies, and LiteRT-LM's own copy of it all.
_LEFT_OUT = {"tokenizer_json", "slots", "litertlm"}

# Stored, not deflated: deflate takes 12 % off for seconds at every build of the library and of the app that unpacks it
# again (docs/adr/0002-stored-program.md), and an app that stores the program can map it.
_STORED = {"program"}

_SDK_BUDGET = Budget(2_000_000, "an SDK library is code only; a model or a runtime has slipped in")
_ARCHIVE_OVERHEAD = 64 * 1024

_NAMESPACE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


@dataclass(frozen=True)
class Coordinates:
    """How the libraries are named. `version` is the model libraries'; the SDK's is Satchel's own.

    `group`: the Maven group of all of them. `namespace`: the Android namespace below which each has its own.
    """

    group: str = "dev.satchel"
    namespace: str = "dev.satchel"
    version: str = satchel.__version__

    def __post_init__(self) -> None:
        Coordinate(self.group, "satchel-core", self.version)  # refuses a bad group or version before any work
        if not _NAMESPACE.fullmatch(self.namespace):
            raise UsageError(f"{self.namespace!r} can't be an Android namespace; an example is dev.satchel.")


@dataclass(frozen=True)
class Packaged:
    """One published library. `model` is None for a library of the SDK, else the bundle's backend."""

    coordinate: Coordinate
    file: Path
    bytes: int
    sha256: str
    backend: str | None


def package_android(
    bundles: Sequence[Bundle],
    folder: Path,
    coordinates: Coordinates,
    cache: Cache,
    tools: Tools,
    console: Console,
    templates: Path | None = None,
) -> list[Packaged]:
    """Write `folder`/maven and a copy of every model library beside it; returns the libraries, models last.

    `folder` is new: what it holds counts only when this returns, with everything checked. Raises BundleError for a
    damaged bundle, ToolMissingError without Maven or Java (unless the SDK is in the cache). `templates`: the SDK's
    sources, Satchel's own by default.
    """
    with console.stage("SDK") as stage:
        stage.note("Kotlin libraries, compiled by Maven")
        sdk = compile_sdk(cache, tools, templates)
        if sdk.reused:
            stage.reused("Kotlin libraries")
    with console.stage("Package") as stage:
        repository = folder / REPOSITORY
        repository.mkdir(parents=True)
        published: list[Packaged] = []
        with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as work:
            for library in sdk.index.libraries:
                stage.note(library.artifact)
                publication = _sdk_library(library, sdk, coordinates, Path(work))
                file = publish(repository, publication)
                published.append(_published(file, publication.coordinate, None))
            for bundle in bundles:
                stage.note(bundle.manifest.library_name)
                publication = _model_library(bundle, sdk, coordinates, Path(work))
                file = publish(repository, publication)
                shutil.copyfile(file, folder / file.name)
                published.append(_published(file, publication.coordinate, bundle.manifest.backend))
        (repository / "README.txt").write_text(_readme(published), encoding="utf-8")
    return published


def gradle_settings(repository: str) -> list[str]:
    """The lines of settings.gradle.kts that name the repository folder `repository`."""
    return [
        "dependencyResolutionManagement {",
        "    repositories {",
        "        google()",
        "        mavenCentral()",
        f'        maven {{ url = uri("{repository}") }}',
        "    }",
        "}",
    ]


def gradle_dependencies(published: Sequence[Packaged]) -> list[str]:
    """The lines of the app's build.gradle.kts: one dependency per model, and an APK that stores the program.

    A model's second library is the same model on another runtime, so its line is a comment. An AAR can't tell the
    app's build what not to compress, so the app says it.
    """
    models = [(library.coordinate, library.backend) for library in published if library.backend is not None]
    names = {coordinate.artifact for coordinate, _ in models}
    programs = sorted({_PROGRAM_SUFFIX[backend] for _, backend in models})
    lines = []
    for coordinate, backend in models:
        line = f'implementation("{coordinate}")'
        lines.append(
            f"// or: {line}"
            if coordinate.artifact.removesuffix(f"-{backend}") in names - {coordinate.artifact}
            else line
        )
    return [
        "dependencies {",
        *(f"    {line}" for line in lines),
        "}",
        "android {",
        *(f'    androidResources {{ noCompress += "{suffix}" }}' for suffix in programs),
        "}",
    ]


_PROGRAM_SUFFIX = {"executorch": "pte", "litert": "tflite"}


# --- one library ------------------------------------------------------------------------------------------------


def _sdk_library(library: Library, sdk: CompiledSdk, coordinates: Coordinates, work: Path) -> Publication:
    classes = sdk.file(library, "classes.jar")
    file = classes
    if library.packaging == "aar":
        file = work / f"{library.artifact}.aar"
        namespace = f"{coordinates.namespace}.{library.namespace}"
        manifest = rename_manifest(sdk.file(library, "AndroidManifest.xml").read_bytes(), namespace)
        rules = sdk.file(library, "proguard.txt").read_bytes()
        write_aar(file, manifest=manifest, classes_jar=classes, rules=rules)
        check_aar(file, _SDK_BUDGET)
    else:
        check_jar(file, _SDK_BUDGET)
    return Publication(
        coordinate=_sdk_coordinate(library, coordinates),
        description=library.description,
        license=SDK_LICENSE,
        dependencies=[_dependency(name, sdk, coordinates) for name in library.dependencies],
        file=file,
        sources=sdk.file(library, "sources.jar"),
    )


def _model_library(bundle: Bundle, sdk: CompiledSdk, coordinates: Coordinates, work: Path) -> Publication:
    manifest = bundle.manifest
    if manifest.backend not in sdk.index.engines:
        known = ", ".join(sdk.index.engines)
        raise NotBuiltYetError(f"There is no Android engine for backend {manifest.backend!r} yet, only for {known}.")
    verify_bundle(bundle)
    name = manifest.library_name
    assets = list(_model_assets(bundle))
    classes, file = work / "empty.jar", work / f"{name}.aar"
    write_empty_classes(classes)
    namespace = f"{coordinates.namespace}.model.{_identifier(name)}"
    write_aar(file, manifest=android_manifest(namespace), classes_jar=classes, rules=b"", assets=assets)
    content = sum(asset.content.stat().st_size for asset in assets if isinstance(asset.content, Path))
    check_aar(file, Budget(content + _ARCHIVE_OVERHEAD, "the bundle and 64 KB around it"))
    return Publication(
        coordinate=Coordinate(coordinates.group, name, _model_version(coordinates, bundle), "aar"),
        description=f"The model {manifest.model.id}, recipe {manifest.recipe}, for {manifest.backend}: assets only.",
        license=manifest.model.license,
        dependencies=[_dependency(sdk.index.engines[manifest.backend], sdk, coordinates)],
        file=file,
    )


def _model_version(coordinates: Coordinates, bundle: Bundle) -> str:
    """The version says it where behaviour was not measured, so that no script ships such a library by mistake."""
    return coordinates.version + ("" if bundle.manifest.verdict.status == "passed" else UNPROVEN)


def _model_assets(bundle: Bundle) -> Iterator[Entry]:
    folder = f"satchel/{bundle.manifest.library_name}"
    yield Entry(f"{folder}/{MANIFEST}", bundle.path / MANIFEST)
    for artifact in bundle.manifest.artifacts:
        if artifact.role not in _LEFT_OUT:
            yield Entry(f"{folder}/{artifact.file}", bundle.path / artifact.file, stored=artifact.role in _STORED)


def _sdk_coordinate(library: Library, coordinates: Coordinates) -> Coordinate:
    return Coordinate(coordinates.group, library.artifact, satchel.__version__, library.packaging)


def _dependency(name: str, sdk: CompiledSdk, coordinates: Coordinates) -> Coordinate:
    """The coordinate of one of our own libraries (by artifact id), or of `group:artifact:version[@aar]`."""
    for library in sdk.index.libraries:
        if library.artifact == name:
            return _sdk_coordinate(library, coordinates)
    group, artifact, version = name.removesuffix("@aar").split(":")
    return Coordinate(group, artifact, version, "aar" if name.endswith("@aar") else "jar")


def _published(file: Path, coordinate: Coordinate, backend: str | None) -> Packaged:
    return Packaged(coordinate, file, file.stat().st_size, file_sha256(file), backend)


def _identifier(name: str) -> str:
    """A model library's name as one part of a Java package name."""
    identifier = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return identifier if identifier[:1].isalpha() else f"m_{identifier}"


def _readme(published: Sequence[Packaged]) -> str:
    lines = [
        "This folder is a Maven repository made by Satchel. Copy it anywhere; no server is needed.",
        "",
        "settings.gradle.kts:",
        *(f"    {line}" for line in gradle_settings("path/to/this/folder")),
        "",
        "build.gradle.kts of the app:",
        *(f"    {line}" for line in gradle_dependencies(published)),
        "",
        "Libraries:",
        *(f"    {library.coordinate}  {library.bytes} bytes  sha256 {library.sha256}" for library in published),
    ]
    return "\n".join(lines) + "\n"
