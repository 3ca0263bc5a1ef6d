"""A Hugging Face directory as a Checkpoint: safetensors read one tensor at a time, no torch, no model code."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import (
    BadWeightsError,
    ModelNotFoundError,
)
from satchel.hashing import file_sha256
from satchel.source.checkpoint import EMBEDDING, HEAD, SourceCodes, SourceInfo, TensorInfo
from satchel.source.checks import model_id_of, require_finite
from satchel.source.folder_text import TEXT_FILES, tokenizer_of
from satchel.source.json_files import optional_json, read_json
from satchel.source.safetensors_io import SafetensorsFile
from satchel.source.sampling import sampling_defaults
from satchel.source.support import checked_config
from satchel.source.weight_files import located, refuse_adapter, weight_files

# Everything that the content hash covers besides the weights; only config.json and tokenizer.json must be there.
SMALL_FILES = ("config.json", "generation_config.json", *TEXT_FILES)


class DirectoryCheckpoint:
    """A Checkpoint over a folder. Made by `open_directory`."""

    def __init__(
        self,
        folder: Path,
        model_id: str,
        source: SourceInfo,
        config: Mapping[str, Any],
        shards: Mapping[str, SafetensorsFile],
    ) -> None:
        self.model_id = model_id
        self.source = source
        self.place: Path | None = folder
        self._shards = shards
        canonical = checked_config(model_id, config)
        self.config = {**canonical, "tie_word_embeddings": _is_tied(canonical, shards)}
        self.generation_config: Mapping[str, Any] = optional_json(folder / "generation_config.json")
        sampling_defaults(self.generation_config)
        self.tokenizer = tokenizer_of(folder, config, self.generation_config)
        self.tensors: Mapping[str, TensorInfo] = {
            name: TensorInfo(name, shard.arrays[name].shape, shard.arrays[name].dtype)
            for name, shard in shards.items()
            if not (name == HEAD and self.config["tie_word_embeddings"])
        }

    def read(self, name: str) -> NDArray[np.float32]:
        if name not in self.tensors:
            raise BadWeightsError(f"{self.source.reference} has no tensor {name}.")
        values = self._shards[name].float32(name)
        require_finite(name, values)
        return values

    def codes(self, name: str) -> SourceCodes | None:
        return None


def open_directory(
    folder: Path, *, kind: str = "directory", reference: str | None = None, revision: str | None = None
) -> DirectoryCheckpoint:
    """Open a Hugging Face directory; `kind`, `reference` and `revision` are given by whoever fetched it from a hub.

    Raises ModelNotFoundError (no model there), UnsafeModelError (pickles), CorruptModelError (truncated or damaged),
    UnsupportedModelError (a stored type), TokenizerError (no tokenizer).
    """
    if not (folder / "config.json").is_file():
        refuse_adapter(folder)
        raise ModelNotFoundError(f"{folder} has no config.json, so it is not a Hugging Face model directory.")
    model_id = model_id_of(Path(reference) if reference else folder)
    config = read_json(folder / "config.json")
    checked_config(model_id, config)
    files = weight_files(folder)
    shards = located(folder, files)
    source = SourceInfo(
        kind=kind,
        reference=reference or folder.resolve().name,
        revision=revision,
        sha256=_content_hash(folder, files),
        license=_license(folder),
    )
    return DirectoryCheckpoint(folder, model_id, source, config, shards)


def _is_tied(config: Mapping[str, Any], shards: Mapping[str, SafetensorsFile]) -> bool:
    """Whether the head is the embedding. A head that is stored and differs is used, whatever config.json says, as
    transformers does."""
    if not config["tie_word_embeddings"] or HEAD not in shards or EMBEDDING not in shards:
        return bool(config["tie_word_embeddings"])
    return shards[HEAD].same_values(HEAD, shards[EMBEDDING], EMBEDDING)


def _content_hash(folder: Path, weight_files: list[str]) -> str:
    """SHA-256 over the names and hashes of weights, config and tokenizer, whatever the folder's name and dates."""
    names = sorted([*weight_files, *(name for name in SMALL_FILES if (folder / name).is_file())])
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _license(folder: Path) -> str | None:
    """`license:` of the model card's front matter."""
    card = folder / "README.md"
    front = card.read_text(encoding="utf-8", errors="replace").split("---")[1:2] if card.is_file() else []
    found = re.search(r"^license:\s*['\"]?([\w.+-]+)", front[0], re.MULTILINE) if front else None
    return found.group(1) if found else None
