"""A Maven repository in a folder, which Gradle and Maven consume as a file URL."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from satchel.errors import UsageError
from satchel.package.android.aar import xml_bytes

Packaging = Literal["jar", "aar"]

_POM = "http://maven.apache.org/POM/4.0.0"
_CHECKSUMS = ("md5", "sha1", "sha256", "sha512")
_CHUNK = 1 << 20
# maven-metadata.xml must have a time; a real one would make two builds differ.
_LAST_UPDATED = "19800201000000"

_GROUP = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_-]*)*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]*")
_ARTIFACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Coordinate:
    """group:artifact:version, the way a Gradle file names a library."""

    group: str
    artifact: str
    version: str
    packaging: Packaging = "jar"

    def __post_init__(self) -> None:
        for what, value, pattern in (
            ("group", self.group, _GROUP),
            ("artifact", self.artifact, _ARTIFACT),
            ("version", self.version, _VERSION),
        ):
            if not pattern.fullmatch(value):
                raise UsageError(f"{value!r} can't be the {what} of a Maven library; an example is {_EXAMPLES[what]}.")

    @property
    def folder(self) -> str:
        """Where its files lie in a repository."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


_EXAMPLES = {"group": "dev.satchel", "artifact": "satchel-core", "version": "0.1.0"}


@dataclass(frozen=True)
class Publication:
    """One library for the repository. `license`: an SPDX identifier, None if the source states none."""

    coordinate: Coordinate
    description: str
    license: str | None
    dependencies: Sequence[Coordinate]
    file: Path  # the jar or aar
    sources: Path | None = None  # the sources jar


def publish(repository: Path, publication: Publication) -> Path:
    """Add a library to the repository folder; returns the published jar or aar."""
    coordinate = publication.coordinate
    folder = repository / coordinate.folder
    folder.mkdir(parents=True)
    stem = f"{coordinate.artifact}-{coordinate.version}"
    published = folder / f"{stem}.{coordinate.packaging}"
    shutil.copyfile(publication.file, published)
    if publication.sources is not None:
        shutil.copyfile(publication.sources, folder / f"{stem}-sources.jar")
    (folder / f"{stem}.pom").write_bytes(_pom(publication))
    (folder.parent / "maven-metadata.xml").write_bytes(_metadata(coordinate))
    for file in [*sorted(folder.iterdir()), folder.parent / "maven-metadata.xml"]:
        write_checksums(file)
    return published


def write_checksums(file: Path) -> None:
    """Write file.md5, .sha1, .sha256 and .sha512 beside `file`, which is read once."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in _CHECKSUMS}
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK):
            for digest in digests.values():
                digest.update(chunk)
    for name, digest in digests.items():
        file.with_name(f"{file.name}.{name}").write_text(digest.hexdigest(), encoding="ascii")


def _pom(publication: Publication) -> bytes:
    coordinate = publication.coordinate
    project = ElementTree.Element("project", {"xmlns": _POM})
    _add(project, "modelVersion", "4.0.0")
    _add_coordinate(project, coordinate)
    _add(project, "packaging", coordinate.packaging)
    _add(project, "name", coordinate.artifact)
    _add(project, "description", publication.description)
    if publication.license is not None:
        licenses = ElementTree.SubElement(project, "licenses")
        _add(ElementTree.SubElement(licenses, "license"), "name", publication.license)
    if publication.dependencies:
        dependencies = ElementTree.SubElement(project, "dependencies")
        for needed in publication.dependencies:
            dependency = ElementTree.SubElement(dependencies, "dependency")
            _add_coordinate(dependency, needed)
            if needed.packaging != "jar":
                _add(dependency, "type", needed.packaging)
            _add(dependency, "scope", "compile")
    return xml_bytes(project)


def _metadata(coordinate: Coordinate) -> bytes:
    metadata = ElementTree.Element("metadata")
    _add(metadata, "groupId", coordinate.group)
    _add(metadata, "artifactId", coordinate.artifact)
    versioning = ElementTree.SubElement(metadata, "versioning")
    _add(versioning, "latest", coordinate.version)
    _add(versioning, "release", coordinate.version)
    _add(ElementTree.SubElement(versioning, "versions"), "version", coordinate.version)
    _add(versioning, "lastUpdated", _LAST_UPDATED)
    return xml_bytes(metadata)


def _add_coordinate(parent: ElementTree.Element, coordinate: Coordinate) -> None:
    _add(parent, "groupId", coordinate.group)
    _add(parent, "artifactId", coordinate.artifact)
    _add(parent, "version", coordinate.version)


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
