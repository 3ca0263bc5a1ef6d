"""Small files of a model folder, from anywhere: read within bounds, and named for what they are."""

import json
import sys
from pathlib import Path
from typing import Any

from satchel.errors import CorruptModelError

_MOST_BYTES = 256 << 20  # the largest tokenizer.json known has 35 MB
_DEEPEST = 400  # levels of nesting; a tokenizer.json has eight
_POINTER = b"version https://git-lfs.github.com/spec/"


def read_text(path: Path) -> str:
    """A UTF-8 text. Raises CorruptModelError if it is none, too long, or only git-lfs's pointer to it."""
    refuse_pointer(path)
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise CorruptModelError(f"{path.name} has {size} bytes; no model needs that many. Get the model again.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise CorruptModelError(f"{path.name} is not UTF-8 text ({problem}). Get the model again.") from problem


def parse_json(text: str | bytes) -> Any:
    """`json.loads`, which raises RecursionError for what is nested hundreds deep whatever the process's own limit is:
    converters raise that one, and then a hostile file would overflow the stack and end the process."""
    frame, frames = sys._getframe(), 1
    while frame.f_back is not None:
        frame, frames = frame.f_back, frames + 1
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(min(usual, frames + _DEEPEST))
    try:
        return json.loads(text)
    finally:
        sys.setrecursionlimit(usual)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CorruptModelError."""
    try:
        value = parse_json(read_text(path))
    except (ValueError, RecursionError) as problem:  # RecursionError: nested thousands deep
        raise CorruptModelError(f"{path.name} is not JSON ({problem}). Get the model again.") from problem
    if not isinstance(value, dict):
        raise CorruptModelError(f"{path.name} must hold a JSON object. Get the model again.")
    return value


def optional_json(path: Path) -> dict[str, Any]:
    """The file's JSON object, empty if there is no such file."""
    return read_json(path) if path.is_file() else {}


def refuse_pointer(path: Path) -> None:
    """Raise CorruptModelError if the file is what git leaves in place of a large file that was not fetched."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise CorruptModelError(
                f"{path.name} is a git-lfs pointer, not the file itself: run `git lfs pull` in the model's folder."
            )
