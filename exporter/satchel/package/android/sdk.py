"""The SDK libraries: the Kotlin templates, compiled by Maven once and kept in the cache."""

import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import satchel
from satchel.cache import Cache
from satchel.package.android.maven import Packaging
from satchel.package.archive import Entry, folder_entries, jar_manifest, write_archive
from satchel.package.render import render_tree, templates_root, tree_hash
from satchel.tools import Tools
from satchel.versions import source_hash

INDEX = "libraries.toml"


@dataclass(frozen=True)
class Library:
    """One published library, as the templates' libraries.toml describes it.

    `dependencies`: artifact ids of our own libraries, or group:artifact:version[@aar] of others.
    """

    artifact: str
    packaging: Packaging
    module: str  # its folder in the templates
    description: str
    dependencies: tuple[str, ...]
    namespace: str = ""  # of an AAR; below the base namespace


@dataclass(frozen=True)
class SdkIndex:
    """Where things are in the templates."""

    libraries: tuple[Library, ...]
    engines: Mapping[str, str]  # backend -> artifact id of its engine's library
    sources: tuple[str, ...]  # what Maven needs
    host_module: str  # folder of the JVM mains, which are never published
    native: Mapping[str, str]  # backend -> folder of its host engine's CMake project


@dataclass(frozen=True)
class CompiledSdk:
    """The output of one Maven run, in the cache.

    `folder`/<artifact>/: classes.jar, sources.jar and, for an AAR, AndroidManifest.xml and proguard.txt;
    `folder`/host/: classes/ and lib/*.jar, the class path of the JVM mains.
    """

    folder: Path
    index: SdkIndex
    reused: bool  # it was in the cache: neither Maven nor Java was started

    def file(self, library: Library, name: str) -> Path:
        return self.folder / library.artifact / name

    @property
    def host_class_path(self) -> tuple[Path, ...]:
        return (self.folder / "host" / "classes", *sorted((self.folder / "host" / "lib").glob("*.jar")))


def read_index(templates: Path) -> SdkIndex:
    """libraries.toml of the templates."""
    data = tomllib.loads((templates / INDEX).read_text(encoding="utf-8"))
    return SdkIndex(
        libraries=tuple(
            Library(**{**entry, "dependencies": tuple(entry["dependencies"])}) for entry in data["library"]
        ),
        engines=data["engines"],
        sources=tuple(data["build"]["sources"]),
        host_module=data["build"]["host_module"],
        native=data["native"],
    )


def compile_sdk(cache: Cache, tools: Tools, templates: Path | None = None) -> CompiledSdk:
    """Compile the templates, or find them compiled: then no Maven and no Java is started, nor needed.

    The result does not depend on where the templates lie: Maven works on a copy, and every archive is written anew.
    """
    templates = templates or templates_root()
    index = read_index(templates)
    key = sdk_key(templates)
    reused = cache.find("sdk", key) is not None
    folder = cache.get_or_build("sdk", key, lambda folder: _build(folder, templates, index, tools))
    return CompiledSdk(folder, index, reused)


def require_compiler(cache: Cache, tools: Tools) -> None:
    """Raises ToolMissingError now, before slow work, if `compile_sdk` would: no Maven or Java, and nothing compiled."""
    templates = templates_root()
    if cache.find("sdk", sdk_key(templates)) is None:
        _ = tools.maven, tools.java


def sdk_key(templates: Path) -> dict[str, str]:
    """What the compiled SDK depends on: its sources, in which all versions are, and what collects the result."""
    sources = tree_hash(templates, INDEX, *read_index(templates).sources)
    return {"templates": sources, "satchel": satchel.__version__, "code": source_hash("package.android.sdk")}


def maven_command(tools: Tools, project: Path) -> list[str]:
    """The Maven run of a product build: no tests, and no Kotlin daemon that would outlive it with 1.4 GB."""
    return [
        str(tools.maven),
        "-q",
        "-B",
        "-f",
        str(project / "pom.xml"),
        "-Dkotlin.compiler.daemon=false",
        "-DskipTests",
        "package",
    ]


def _build(folder: Path, templates: Path, index: SdkIndex, tools: Tools) -> None:
    with tempfile.TemporaryDirectory(prefix="satchel-sdk-") as temporary:
        project = Path(temporary)
        render_tree(templates, project, {"satchel_version": satchel.__version__}, *index.sources)
        tools.run(maven_command(tools, project), env=tools.java_env())
        for library in index.libraries:
            collect(project / library.module, folder / library.artifact, library)
        host = project / index.host_module / "target"
        shutil.copytree(host / "classes", folder / "host" / "classes")
        shutil.copytree(host / "lib", folder / "host" / "lib")


def collect(module: Path, folder: Path, library: Library) -> None:
    """What a publication needs of one module: archives written by us, so that their bytes depend on contents alone."""
    folder.mkdir()
    classes = [
        entry
        for entry in folder_entries(module / "target" / "classes")
        if entry.name != jar_manifest().name and not entry.name.startswith("META-INF/maven/")
    ]
    write_archive(folder / "classes.jar", [jar_manifest(), *classes])
    sources: list[Entry] = []
    for name in ("kotlin", "java", "resources"):
        sources += folder_entries(module / "src" / "main" / name)
    write_archive(folder / "sources.jar", [jar_manifest(), *sources])
    if library.packaging == "aar":
        shutil.copyfile(module / "src" / "main" / "AndroidManifest.xml", folder / "AndroidManifest.xml")
        shutil.copyfile(module / "consumer-rules.pro", folder / "proguard.txt")
