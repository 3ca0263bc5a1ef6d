"""Which files of a model folder are its weights, as transformers chooses, and where each tensor lies.

`model.safetensors` counts before an index, which may be left of an older save; other safetensors files beside them (an
adapter, another format of the same weights) are not looked at. Only safetensors are read: a pickle (.bin, .pt, .pth)
can run code when it is opened, so it is refused by its name.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from satchel.errors import CorruptModelError, ModelNotFoundError, UnsafeModelError, UnsupportedModelError
from satchel.source.json_files import optional_json, read_json
from satchel.source.safetensors_io import SafetensorsFile

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Buffers that old versions of transformers saved; their values follow from the config.
_DERIVED = re.compile(r"\.rotary_emb\.inv_freq$")
_FLOAT_TYPES = {"F64", "F32", "F16", "BF16"}


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files that make up the model.

    Raises ModelNotFoundError, UnsafeModelError (pickles), UnsupportedModelError (an adapter) or CorruptModelError.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        return sorted({str(file) for file in _weight_map(folder).values()})
    refuse_adapter(folder)
    found = sorted(path.name for path in folder.iterdir() if path.suffix == ".safetensors")
    if len(found) > 1 or any(re.search(r"-of-0*[2-9]", name) for name in found):
        raise CorruptModelError(
            f"{folder.name} has {', '.join(found[:3])}, but neither {WEIGHTS} nor the {INDEX} that says what lies in "
            "which part. Get the model again, with that file."
        )
    if found:
        return found
    refuse_pickles(folder.name, [path.name for path in folder.iterdir()])
    raise ModelNotFoundError(f"{folder.name} has no weights: no {WEIGHTS} and no {INDEX}.")


def refuse_adapter(folder: Path) -> None:
    """Raise UnsupportedModelError if the folder has an adapter and no model."""
    if not (folder / _ADAPTER).is_file() or (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        return
    base = optional_json(folder / _ADAPTER).get("base_model_name_or_path") or "another model"
    raise UnsupportedModelError(
        f"{folder.name} is an adapter of {base}, not a model. Merge it (peft: merge_and_unload) and save the merged "
        "model with save_pretrained."
    )


def refuse_pickles(model: str, files: Iterable[str]) -> None:
    """Raise UnsafeModelError if these file names have pickles but no safetensors."""
    names = sorted(files)
    pickles = [name for name in names if Path(name).suffix in _PICKLES]
    if pickles and not any(name.endswith(".safetensors") for name in names):
        raise UnsafeModelError(
            f"{model} has its weights only as {pickles[0]}, a pickle, which can run code when it is opened. "
            "Save the model as safetensors (transformers: save_pretrained) on a machine where you trust it."
        )


def located(folder: Path, files: list[str]) -> dict[str, SafetensorsFile]:
    """Tensor name -> the open file that holds it. Raises CorruptModelError, UnsupportedModelError (a stored type)."""
    shards = dict(_located(folder, files))
    for name, shard in shards.items():
        stored_type = shard.arrays[name].dtype
        if stored_type not in _FLOAT_TYPES:
            raise UnsupportedModelError(
                f"{name} is stored as {stored_type}; only F32, F16 and BF16 weights can be converted. "
                "Start from the original, unquantized model."
            )
    return shards


def _located(folder: Path, files: list[str]) -> Iterator[tuple[str, SafetensorsFile]]:
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise CorruptModelError(f"{folder.name} lacks {missing[0]}, which {INDEX} names. Download the model again.")
    opened = {file: SafetensorsFile(folder / file) for file in files}
    indexed = files != [WEIGHTS] and (folder / INDEX).is_file()
    where = _weight_map(folder) if indexed else dict.fromkeys(opened[files[0]].arrays, files[0])
    for name, file in where.items():
        if name not in opened[file].arrays:
            raise CorruptModelError(f"{file} lacks {name}, which {INDEX} says it has. Download the model again.")
        if not _DERIVED.search(name):
            yield name, opened[file]


def _weight_map(folder: Path) -> Mapping[str, Any]:
    """The index: tensor -> file name. A name that leads out of the folder is refused."""
    table = read_json(folder / INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CorruptModelError(f"{INDEX} has no weight_map. Get the model again.")
    for file in table.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise CorruptModelError(f"{INDEX} names the file {file!r}, which is not a plain file name.")
    return table
