"""A Hugging Face directory as a Checkpoint: safetensors read one tensor at a time, no torch, no model code.

Only safetensors are read. A pickle (.bin, .pt, .pth) can run code when it is opened, so it is refused by its name.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import (
    BadWeightsError,
    CorruptModelError,
    ModelNotFoundError,
    TokenizerError,
    UnsafeModelError,
    UnsupportedModelError,
)
from satchel.hashing import file_sha256
from satchel.source.checkpoint import HEAD, SourceCodes, SourceInfo, TensorInfo, TokenizerAssets
from satchel.source.checks import model_id_of, require_finite
from satchel.source.safetensors_io import SafetensorsFile
from satchel.source.support import checked_config

INDEX = "model.safetensors.index.json"
# Everything that the content hash covers besides the weights; only config.json and tokenizer.json must be there.
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FLOAT_TYPES = {"F64", "F32", "F16", "BF16"}
# Buffers that old versions of transformers saved; their values follow from the config.
_DERIVED = re.compile(r"\.rotary_emb\.inv_freq$")


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
        self.config = checked_config(model_id, _with_tying(config, HEAD in shards))
        self.generation_config: Mapping[str, Any] = _optional_json(folder / "generation_config.json")
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
        raise ModelNotFoundError(f"{folder} has no config.json, so it is not a Hugging Face model directory.")
    model_id = model_id_of(Path(reference) if reference else folder)
    config = _json(folder / "config.json")
    checked_config(model_id, config)
    files = _weight_files(folder)
    shards = dict(_located(folder, files))
    for name, shard in shards.items():
        stored_type = shard.arrays[name].dtype
        if stored_type not in _FLOAT_TYPES:
            raise UnsupportedModelError(
                f"{name} is stored as {stored_type}; only F32, F16 and BF16 weights can be converted. "
                "Start from the original, unquantized model."
            )
    source = SourceInfo(
        kind=kind,
        reference=reference or folder.resolve().name,
        revision=revision,
        sha256=_content_hash(folder, files),
        license=_license(folder),
    )
    return DirectoryCheckpoint(folder, model_id, source, config, shards)


def _weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files that make up the model."""
    if (folder / INDEX).is_file():
        return sorted({str(file) for file in _weight_map(folder).values()})
    found = sorted(path.name for path in folder.iterdir() if path.suffix == ".safetensors")
    if found == ["model.safetensors"] or len(found) == 1:
        return found
    if found:
        raise CorruptModelError(f"{folder.name} has {len(found)} safetensors files but no {INDEX} that names them.")
    refuse_pickles(folder.name, [path.name for path in folder.iterdir()])
    raise ModelNotFoundError(f"{folder.name} has no weights: no model.safetensors and no {INDEX}.")


def refuse_pickles(model: str, files: Iterable[str]) -> None:
    """Raise UnsafeModelError if these file names have pickles but no safetensors."""
    names = sorted(files)
    pickles = [name for name in names if Path(name).suffix in _PICKLES]
    if pickles and not any(name.endswith(".safetensors") for name in names):
        raise UnsafeModelError(
            f"{model} has its weights only as {pickles[0]}, a pickle, which can run code when it is opened. "
            "Save the model as safetensors (transformers: save_pretrained) on a machine where you trust it."
        )


def _weight_map(folder: Path) -> Mapping[str, Any]:
    """The index: tensor -> file name. A name that leads out of the folder is refused."""
    table = _json(folder / INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CorruptModelError(f"{INDEX} has no weight_map. Get the model again.")
    for file in table.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise CorruptModelError(f"{INDEX} names the file {file!r}, which is not a plain file name.")
    return table


def _located(folder: Path, files: list[str]) -> Iterator[tuple[str, SafetensorsFile]]:
    """Tensor name -> the open file that holds it."""
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise CorruptModelError(f"{folder.name} lacks {missing[0]}, which {INDEX} names. Download the model again.")
    opened = {file: SafetensorsFile(folder / file) for file in files}
    indexed = (folder / INDEX).is_file()
    where = _weight_map(folder) if indexed else dict.fromkeys(opened[files[0]].arrays, files[0])
    for name, file in where.items():
        if name not in opened[file].arrays:
            raise CorruptModelError(f"{file} lacks {name}, which {INDEX} says it has. Download the model again.")
        if not _DERIVED.search(name):
            yield name, opened[file]


def _with_tying(config: Mapping[str, Any], has_head: bool) -> dict[str, Any]:
    """config.json leaves `tie_word_embeddings` out where it is the architecture's default; the weights tell it."""
    return {**config, "tie_word_embeddings": bool(config.get("tie_word_embeddings", not has_head))}


def _tokenizer(folder: Path, config: Mapping[str, Any], generation: Mapping[str, Any]) -> TokenizerAssets:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(
            f"{folder.name} has no tokenizer.json. Save it with transformers: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    text = _text(path)
    settings = _optional_json(folder / "tokenizer_config.json")
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
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise TokenizerError(f"tokenizer.json can't be read ({problem}). Get the model again.") from problem


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template's own file wins; else tokenizer_config.json's, of several the one named "default"."""
    if (folder / "chat_template.jinja").is_file():
        return _text(folder / "chat_template.jinja")
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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise CorruptModelError(f"{path.name} is not UTF-8 text ({problem}). Get the model again.") from problem


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except ValueError as problem:
        raise CorruptModelError(f"{path.name} is not JSON ({problem}). Get the model again.") from problem
    if not isinstance(value, dict):
        raise CorruptModelError(f"{path.name} must hold a JSON object. Get the model again.")
    return value


def _optional_json(path: Path) -> dict[str, Any]:
    return _json(path) if path.is_file() else {}
