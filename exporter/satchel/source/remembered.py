"""MODEL to Checkpoint, and back from a content hash: where each model lay is remembered in the cache."""

import json
from pathlib import Path

from satchel.cache import Cache
from satchel.errors import ModelError, ModelNotFoundError, ReferenceMissingError
from satchel.files import canonical_json, write_file
from satchel.source.alias import aliases
from satchel.source.checkpoint import Checkpoint
from satchel.source.places import hides_a_built_in
from satchel.source.resolve import open_model
from satchel.workshop import Workshop


def remembered_model(name: str, workshop: Workshop) -> Checkpoint:
    """MODEL -> Checkpoint; remembers by content hash where it lies, so that a bundle finds its float reference."""
    if name in aliases() and hides_a_built_in(name):
        workshop.console.warn(
            f"the folder {name} here is taken, not the built-in model of that name. For that, start in another folder."
        )
    with workshop.console.stage("Model") as stage:
        checkpoint = open_model(name, workshop.cache, workshop.tools)
        stage.note(f"{checkpoint.model_id}, {checkpoint.source.kind}, {len(checkpoint.tensors)} tensors")
        located = str(Path(name).resolve()) if Path(name).exists() else name
        write_file(_record(workshop.cache, checkpoint.source.sha256), canonical_json({"model": located}))
    return checkpoint


def reference_of(sha256: str, given: str | None, workshop: Workshop) -> Checkpoint:
    """The Checkpoint that a bundle was made from: found by content hash, else `given` (--model).

    Raises ReferenceMissingError if neither is there, what was found is gone or unusable by now, or it is another model.
    """
    record = _record(workshop.cache, sha256)
    name = given
    if name is None and record.is_file():
        name = json.loads(record.read_text(encoding="utf-8"))["model"]
    if name is None:
        raise ReferenceMissingError(
            f"The bundle's float reference (content hash {sha256[:12]}) is not in the cache. "
            "Name the model that the bundle was built from: --model MODEL."
        )
    try:
        checkpoint = remembered_model(name, workshop)
    except ModelError as error:
        if name == given:
            raise
        state = "is no longer there" if isinstance(error, ModelNotFoundError) else f"can't be used any more ({error})"
        raise ReferenceMissingError(
            f"The bundle was built from {name}, which {state}. Name the model that the bundle was built from: "
            "--model MODEL."
        ) from error
    if checkpoint.source.sha256 != sha256:
        raise ReferenceMissingError(
            f"{name} has the content hash {checkpoint.source.sha256[:12]}, the bundle was built from {sha256[:12]}. "
            "Name the model that the bundle was built from: --model MODEL."
        )
    return checkpoint


def _record(cache: Cache, sha256: str) -> Path:
    return cache.root / "sources" / f"{sha256}.json"
