"""The bundle as a folder: artifacts beside manifest.json, found, read and verified.

Reading a bundle checks the manifest and that every file is there with its size; `verify_bundle` checks the bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from satchel.bundle.manifest import MANIFEST, Artifact, Manifest
from satchel.errors import BundleError
from satchel.files import canonical_json
from satchel.hashing import content_bytes, content_sha256

TOKENIZER_JSON = "tokenizer.json"
TOKENIZER = "tokenizer.bin"
PROMPT = "prompt.json"
GOLDEN = "golden.json"
SLOTS = "slots.json"


@dataclass(frozen=True)
class Bundle:
    """One bundle on disk. Reading it checks the manifest; `verify` checks the bytes."""

    path: Path
    manifest: Manifest

    def file(self, role: str) -> Path:
        """Path of the artifact of that role."""
        return self.path / self.manifest.artifact(role).file


def read_bundle(path: Path) -> Bundle:
    """The bundle in the folder `path`. Raises BundleError if the manifest or an artifact's file is missing or bad."""
    manifest_file = path / MANIFEST
    try:
        data = json.loads(manifest_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} is no bundle: it has no {MANIFEST}. Build one: `satchel build MODEL`.") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{manifest_file} can't be read: {error}. Build the bundle again.") from error
    if not isinstance(data, dict):
        raise BundleError(f"{manifest_file} holds no JSON object. Build the bundle again.")
    manifest = Manifest.from_json(data, str(manifest_file))
    for artifact in manifest.artifacts:
        found = path / artifact.file
        if not found.exists():
            raise BundleError(f"{found} is missing ({artifact.role} of the bundle). Build the bundle again.")
        if (size := content_bytes(found)) != artifact.bytes:
            raise BundleError(
                f"{found} has {size} bytes, the manifest says {artifact.bytes}: a truncated or "
                "replaced file. Build the bundle again."
            )
    return Bundle(path, manifest)


def verify_bundle(bundle: Bundle) -> None:
    """Check every artifact's sha256. Raises BundleError naming the first file that differs."""
    for artifact in bundle.manifest.artifacts:
        actual = content_sha256(bundle.path / artifact.file)
        if actual != artifact.sha256:
            raise BundleError(
                f"{bundle.path / artifact.file} is damaged: its sha256 is {actual}, the manifest says "
                f"{artifact.sha256}. Build the bundle again."
            )


def bundles_in(folder: Path) -> list[Path]:
    """The folders in `folder` that are bundles, in order of their names; none if it is not there."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if (path / MANIFEST).is_file() and not path.name.startswith(".")]


def find_bundles(path: Path) -> list[Bundle]:
    """The bundle at `path`, or all bundles in the folder `path` in order of their names. Raises BundleError if none."""
    if (path / MANIFEST).is_file():
        return [read_bundle(path)]
    folders = bundles_in(path)
    if not folders:
        wrong = "does not exist" if not path.exists() else f"is no bundle and holds none (no {MANIFEST})"
        raise BundleError(f"{path} {wrong}. Name a bundle folder or the folder above it, e.g. build/bundle.")
    return [read_bundle(folder) for folder in folders]


def write_manifest(folder: Path, manifest: Manifest, files: Mapping[str, str]) -> Manifest:
    """Write manifest.json for `files` (role -> file name in `folder`), in that order; returns the complete manifest."""
    artifacts = tuple(
        Artifact(role, name, content_bytes(folder / name), content_sha256(folder / name))
        for role, name in files.items()
    )
    complete = Manifest(**{**vars(manifest), "artifacts": artifacts})
    (folder / MANIFEST).write_bytes(canonical_json(complete.to_json()))
    return complete
