"""Bundles to a Maven repository: what it holds, that it is the same bytes every time, and what is refused."""

import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import satchel
from satchel.bundle.folder import Bundle
from satchel.bundle.manifest import Verdict
from satchel.cache import Cache
from satchel.console import Console
from satchel.errors import BundleError, NotBuiltYetError, UsageError
from satchel.package.android.libraries import (
    Coordinates,
    Packaged,
    gradle_dependencies,
    gradle_settings,
    package_android,
)

POM = {"m": "http://maven.apache.org/POM/4.0.0"}
MakeBundle = Callable[..., Bundle]
Package = Callable[..., list[Packaged]]


@pytest.fixture
def package(tmp_path: Path, templates: Path, maven: Any) -> Package:
    """package(bundles, out="out", coordinates=..., templates=..., cache="cache") into folders of the test's own."""

    def run(
        bundles: list[Bundle],
        out: str = "out",
        coordinates: Coordinates = Coordinates(),  # noqa: B008 (frozen)
        templates: Path = templates,
        cache: str = "cache",
    ) -> list[Packaged]:
        return package_android(
            bundles, tmp_path / out, coordinates, Cache(tmp_path / cache), maven, Console.quiet(), templates
        )

    return run


def tree(folder: Path) -> dict[str, str]:
    """Every file of a folder -> its sha256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_what_is_published(tmp_path: Path, make_bundle: MakeBundle, package: Package) -> None:
    published = package([make_bundle(tmp_path / "b", model="smol-135m")])
    assert [str(library.coordinate) for library in published] == [
        f"dev.satchel:satchel-core:{satchel.__version__}",
        f"dev.satchel:satchel-engine:{satchel.__version__}",
        f"dev.satchel:smol-135m-int4:{satchel.__version__}",
    ]
    assert [library.backend for library in published] == [None, None, "executorch"]
    for library in published:
        content = library.file.read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (library.bytes, library.sha256)
        for name in ("md5", "sha1", "sha256", "sha512"):
            checksum = library.file.with_name(f"{library.file.name}.{name}").read_text()
            assert checksum == hashlib.new(name, content).hexdigest()
    beside = tmp_path / "out" / published[-1].file.name
    assert beside.read_bytes() == published[-1].file.read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["maven", beside.name]


def test_the_model_library_holds_the_bundle_and_no_code(
    tmp_path: Path, make_bundle: MakeBundle, package: Package
) -> None:
    bundle = make_bundle(tmp_path / "b", model="SmolLM2.5-x")
    model = package([bundle])[-1]
    with zipfile.ZipFile(model.file) as aar:
        folder = "assets/satchel/SmolLM2.5-x-int4"
        files = {"manifest.json", "model.pte", "tokenizer.bin", "prompt.json", "golden.json"}
        assert {name for name in aar.namelist() if name.startswith("assets/")} == {f"{folder}/{f}" for f in files}
        for file in files:
            assert aar.read(f"{folder}/{file}") == (bundle.path / file).read_bytes()
        assert aar.getinfo(f"{folder}/model.pte").compress_type == zipfile.ZIP_STORED
        assert 'package="dev.satchel.model.smollm2_5_x_int4"' in aar.read("AndroidManifest.xml").decode()
        classes = zipfile.ZipFile(io.BytesIO(aar.read("classes.jar")))
        assert classes.namelist() == ["META-INF/MANIFEST.MF"]


def test_the_engine_library_has_code_rules_and_its_own_namespace(
    tmp_path: Path, make_bundle: MakeBundle, package: Package
) -> None:
    engine = package([make_bundle(tmp_path / "b")], coordinates=Coordinates(namespace="com.example.ai"))[1]
    with zipfile.ZipFile(engine.file) as aar:
        assert set(aar.namelist()) == {
            "AndroidManifest.xml",
            "META-INF/com/android/build/gradle/aar-metadata.properties",
            "R.txt",
            "classes.jar",
            "proguard.txt",
        }
        manifest = aar.read("AndroidManifest.xml").decode()
        assert 'package="com.example.ai.engine"' in manifest
        assert 'android:minSdkVersion="26"' in manifest
        assert 'android:extractNativeLibs="false"' in manifest  # what the source says stays
        names = zipfile.ZipFile(io.BytesIO(aar.read("classes.jar"))).namelist()
        assert names == ["META-INF/MANIFEST.MF", "META-INF/services/dev.Engine", "dev/Engine.class"]


def test_poms_lead_from_the_model_to_the_runtime(tmp_path: Path, make_bundle: MakeBundle, package: Package) -> None:
    coordinates = Coordinates(group="com.example", version="3.1.4-beta")
    dependencies = {}
    for library in package([make_bundle(tmp_path / "b")], coordinates=coordinates):
        pom = ElementTree.fromstring(library.file.with_suffix(".pom").read_bytes())
        assert pom.findtext("m:packaging", namespaces=POM) == library.coordinate.packaging
        assert pom.findtext("m:version", namespaces=POM) == library.coordinate.version
        dependencies[library.coordinate.artifact] = [
            ":".join(
                dependency.findtext(f"m:{tag}", "jar", POM) for tag in ("groupId", "artifactId", "version", "type")
            )
            for dependency in pom.iterfind("m:dependencies/m:dependency", POM)
        ]
        metadata = ElementTree.parse(library.file.parents[1] / "maven-metadata.xml")
        assert metadata.findtext("versioning/release") == library.coordinate.version
    sdk = satchel.__version__
    assert dependencies == {
        "satchel-core": ["org.jetbrains.kotlin:kotlin-stdlib:2.2.0:jar"],
        "satchel-engine": [f"com.example:satchel-core:{sdk}:jar", "org.pytorch:executorch-android:1.5.0:aar"],
        "tiny-int4": [f"com.example:satchel-engine:{sdk}:aar"],
    }


def test_sources_are_rendered_and_without_tests(tmp_path: Path, make_bundle: MakeBundle, package: Package) -> None:
    core = package([make_bundle(tmp_path / "b")])[0]
    with zipfile.ZipFile(core.file.with_name(f"{core.file.stem}-sources.jar")) as sources:
        assert sources.namelist() == ["META-INF/MANIFEST.MF", "Core.kt", "Version.kt"]
        assert sources.read("Version.kt").decode() == f'const val VERSION = "{satchel.__version__}"'


def test_two_builds_from_two_places_are_the_same_bytes(
    tmp_path: Path, make_bundle: MakeBundle, package: Package, templates: Path
) -> None:
    bundle = make_bundle(tmp_path / "b")
    package([bundle], out="one")
    elsewhere = shutil.copytree(templates, tmp_path / "another" / "checkout")
    package([bundle], out="two", templates=elsewhere, cache="another cache")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_maven_is_started_once(tmp_path: Path, make_bundle: MakeBundle, package: Package, maven: Any) -> None:
    bundle = make_bundle(tmp_path / "b")
    package([bundle])
    (command,) = maven.commands
    project = command[command.index("-f") + 1]
    assert command == [
        "/opt/maven/bin/mvn",
        "-q",
        "-B",
        "-f",
        project,
        "-Dkotlin.compiler.daemon=false",
        "-DskipTests",
        "package",
    ]
    package([bundle], out="again")
    assert len(maven.commands) == 1


def test_a_changed_source_is_compiled_anew_a_changed_test_is_not(
    tmp_path: Path, make_bundle: MakeBundle, package: Package, maven: Any, templates: Path
) -> None:
    bundle = make_bundle(tmp_path / "b")
    package([bundle])
    (templates / "core/src/test/kotlin/CoreTest.kt").write_text("class Other")
    (templates / "native/CMakeLists.txt").write_text("project(other)")
    (templates / "core/target").mkdir()
    (templates / "core/target/left.class").write_text("by a build in the checkout")
    package([bundle], out="again")
    assert len(maven.commands) == 1
    (templates / "core/src/main/kotlin/Core.kt").write_text("class Core2")
    package([bundle], out="changed")
    assert len(maven.commands) == 2


def test_a_damaged_bundle_is_not_packed(tmp_path: Path, make_bundle: MakeBundle, package: Package) -> None:
    bundle = make_bundle(tmp_path / "b")
    bundle.file("program").write_bytes(b"X" * bundle.file("program").stat().st_size)
    with pytest.raises(BundleError, match="damaged"):
        package([bundle])
    assert not list((tmp_path / "out").glob("*.aar"))


def test_a_library_whose_model_was_not_measured_says_it_in_its_version(
    tmp_path: Path, make_bundle: MakeBundle, package: Package
) -> None:
    proven = make_bundle(tmp_path / "a", model="proven")
    bundle = make_bundle(tmp_path / "b", model="unmeasured")
    verdict = Verdict("weights-only", bundle.manifest.verdict.gates)
    unproven = replace(bundle, manifest=replace(bundle.manifest, verdict=verdict))
    libraries = package([proven, unproven], coordinates=Coordinates(version="2.0"))
    assert [str(library.coordinate) for library in libraries[-2:]] == [
        "dev.satchel:proven-int4:2.0",
        "dev.satchel:unmeasured-int4:2.0-unproven",
    ]
    assert 'implementation("dev.satchel:unmeasured-int4:2.0-unproven")' in "\n".join(gradle_dependencies(libraries))


def test_a_backend_without_an_engine_is_refused(tmp_path: Path, make_bundle: MakeBundle, package: Package) -> None:
    with pytest.raises(NotBuiltYetError, match=r"backend 'coreml' yet, only for executorch, litert"):
        package([make_bundle(tmp_path / "b", backend="coreml")])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"group": "Dev Satchel"}, "'Dev Satchel' can't be the group"),
        ({"version": "../1"}, r"'\.\./1' can't be the version"),
        ({"namespace": "satchel"}, "'satchel' can't be an Android namespace"),
    ],
)
def test_names_that_android_or_maven_refuse(names: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Coordinates(**names)


def test_the_lines_to_paste(tmp_path: Path, make_bundle: MakeBundle, package: Package) -> None:
    published = package([make_bundle(tmp_path / "b")])
    assert '        maven { url = uri("build/android/maven") }' in gradle_settings("build/android/maven")
    assert gradle_dependencies(published) == [
        "dependencies {",
        f'    implementation("dev.satchel:tiny-int4:{satchel.__version__}")',
        "}",
        "android {",
        '    androidResources { noCompress += "pte" }',
        "}",
    ]
    readme = (tmp_path / "out" / "maven" / "README.txt").read_text()
    assert published[-1].sha256 in readme
    assert str(tmp_path) not in readme


def test_the_same_model_on_another_runtime_is_an_alternative(
    tmp_path: Path, make_bundle: MakeBundle, package: Package
) -> None:
    """With both in one app, it would have to say which to load."""
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", backend="litert")
    published = package([first, second, make_bundle(tmp_path / "c", model="other", backend="litert")])
    assert gradle_dependencies(published) == [
        "dependencies {",
        f'    implementation("dev.satchel:tiny-int4:{satchel.__version__}")',
        f'    // or: implementation("dev.satchel:tiny-int4-litert:{satchel.__version__}")',
        f'    implementation("dev.satchel:other-int4-litert:{satchel.__version__}")',
        "}",
        "android {",
        '    androidResources { noCompress += "pte" }',
        '    androidResources { noCompress += "tflite" }',
        "}",
    ]
