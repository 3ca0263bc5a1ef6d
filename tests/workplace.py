"""A tiny model and one good build of it, and the command line as a function: what tests of whole builds start from."""

import contextlib
import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satchel.cli import main

BUILD = ("build", "--backend", "executorch")


@dataclass(frozen=True)
class Workplace:
    """A model, and one good build of it, in a folder with its own cache."""

    model: Path
    out: Path
    cache: Path
    report: dict[str, Any]


def satchel(*words: object) -> tuple[int, Any, str]:
    """Exit code, the JSON object of standard output (None if there is none), standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, json.loads(out.getvalue()) if out.getvalue().startswith("{") else None, err.getvalue()


def digests(folder: Path) -> dict[str, str]:
    """Every file that a reader finds in `folder`, links followed: path -> sha256."""
    found = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != ".satchel"]
        for name in names:
            path = Path(place, name)
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
