"""A Hugging Face directory as a Checkpoint: safetensors read one tensor at a time, no torch, no model code."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import (
    BadWeightsError,
    ModelNotFoundError,
    TokenizerError,
)
from satchel.hashing import file_sha256
from satchel.source.checkpoint import EMBEDDING, HEAD, SourceCodes, SourceInfo, TensorInfo, TokenizerAssets
from satchel.source.checks import model_id_of, require_finite
from satchel.source.json_files import optional_json, read_json, read_text
from satchel.source.safetensors_io import SafetensorsFile
from satchel.source.support import checked_config
from satchel.source.weight_files import located, refuse_adapter, weight_files

# Everything that the content hash covers besides the weights; only config.json and tokenizer.json must be there.
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


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
        self.tokenizer = _tokenizer(folder, config, self.generation_config)
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


def _tokenizer(folder: Path, config: Mapping[str, Any], generation: Mapping[str, Any]) -> TokenizerAssets:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(
            f"{folder.name} has no tokenizer.json. Save it with transformers: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    text = read_text(path)
    settings = optional_json(folder / "tokenizer_config.json")
    ids = _added_ids(text)

    def token(name: str) -> tuple[str, int | None]:
        """Text and id of a special token: the tokenizer's settings know it, else the config knows its id."""
        setting = settings.get(f"{name}_token")
        content = setting.get("content") if isinstance(setting, dict) else setting
        if isinstance(content, str):
            return content, ids.get(content)
        configured = None if settings else next(iter(_ids(config, f"{name}_token_id")), None)
        return next((text for text, token_id in ids.items() if token_id == configured), ""), configured

    (bos_token, bos_id), (eos_token, eos_id), (_, pad_id) = token("bos"), token("eos"), token("pad")
    stops = _ids(generation if "eos_token_id" in generation else config, "eos_token_id")
    stops += [] if eos_id is None else [eos_id]
    return TokenizerAssets(
        tokenizer_json=text,
        chat_template=_chat_template(folder, settings),
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        stop_ids=tuple(dict.fromkeys(stops)),
        bos_token=bos_token,
        eos_token=eos_token,
    )


def _added_ids(tokenizer_json: str) -> dict[str, int]:
    """Text -> id of the tokens that are matched as a whole."""
    try:
        added = json.loads(tokenizer_json).get("added_tokens") or []
        return {token["content"]: int(token["id"]) for token in added}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise TokenizerError(f"tokenizer.json can't be read ({problem}). Get the model again.") from problem


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template's own file wins; else tokenizer_config.json's, of several the one named "default"."""
    if (folder / "chat_template.jinja").is_file():
        return read_text(folder / "chat_template.jinja")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _ids(table: Mapping[str, Any], key: str) -> list[int]:
    """A token id, or a list of them, or nothing."""
    value = table.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(one) is int and one >= 0 for one in ids):
        raise TokenizerError(f"{key} is {value!r}; it must be a token id or a list of them. Get the model again.")
    return ids


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
