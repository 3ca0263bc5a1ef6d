"""What MODEL names on this machine: a path is a path, and is never asked of the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from satchel.errors import CorruptModelError, ModelNotFoundError

_OF_MODELS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".json", ".onnx", ".zip")
_HUB_FOLDER = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a model; `reference` and `revision` where the hub's cache says what it is of, else None."""

    folder: Path
    reference: str | None = None
    revision: str | None = None


def is_file(place: str) -> bool:
    """Whether a file is there; no for what can't be a path, such as a name of 300 characters."""
    try:
        return Path(place).is_file()
    except (OSError, ValueError):
        return False


def is_folder(place: str) -> bool:
    """Whether a folder is there; see `is_file`."""
    try:
        return Path(place).is_dir()
    except (OSError, ValueError):
        return False


def is_gguf(model: str) -> bool:
    """Whether MODEL is a GGUF file, in capitals or not."""
    return is_file(model) and model.lower().endswith(".gguf")


def hides_a_built_in(model: str) -> bool:
    """Whether a model's folder lies here under a name that may be a built-in model's too."""
    return is_file(f"{model}/config.json")


def refuse_path(model: str) -> None:
    """Raise ModelNotFoundError if MODEL is a path, or looks like one, at which there is no folder and no GGUF file."""
    if is_file(model):
        raise ModelNotFoundError(
            f"{model} is a file, and a model is a folder or a .gguf file. Name the folder: {Path(model).parent}"
        )
    first = model.split("/")[0]
    if model.startswith(("/", "./", "../", "~")) or model.lower().endswith(_OF_MODELS):
        raise ModelNotFoundError(f"There is no model at {_short(model)}: no such folder or .gguf file.")
    if "/" in model and "@" not in model and is_folder(first):
        raise ModelNotFoundError(
            f"There is a folder {first} here, but no {_short(model)} in it. If the hub's model is meant, name its "
            f"revision too: {_short(model)}@main"
        )


def model_folder(folder: Path) -> ModelFolder:
    """The folder that MODEL names; of the hub's cache the snapshot in it, with the model's name and commit.

    Raises CorruptModelError if a folder of the cache has no snapshot, or several and none that counts.
    """
    if (match := _HUB_FOLDER.fullmatch(folder.resolve().name)) and not (folder / "config.json").is_file():
        snapshot = _snapshot(folder)
        return ModelFolder(snapshot, f"{match['owner']}/{match['name']}", snapshot.name)
    own = folder.resolve()
    if own.parent.name == "snapshots" and (match := _HUB_FOLDER.fullmatch(own.parent.parent.name)):
        return ModelFolder(folder, f"{match['owner']}/{match['name']}", own.name)
    return ModelFolder(folder)


def _snapshot(folder: Path) -> Path:
    """The snapshot of the main branch, or the only one."""
    snapshots = sorted(path for path in (folder / "snapshots").glob("*") if path.is_dir())
    main = folder / "refs" / "main"
    commit = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    chosen = [path for path in snapshots if _COMMIT.fullmatch(commit) and path.name == commit]
    if found := chosen or (snapshots if len(snapshots) == 1 else []):
        return found[0]
    if snapshots:
        raise CorruptModelError(f"{folder.name} has several snapshots: name one, such as {snapshots[0]}")
    raise CorruptModelError(f"{folder.name} is a folder of the hub's cache without a snapshot. Get the model again.")


def _short(model: str) -> str:
    return model if len(model) <= 200 else model[:197] + "..."
