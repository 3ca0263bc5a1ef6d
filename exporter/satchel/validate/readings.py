"""A source's reading, checked once: from the cache if these files were compared before with this code and these tools.

Only agreement is kept: a difference, or that nobody could check, is found anew each time.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from satchel.compile.assets import TextAssets
from satchel.files import canonical_json, write_file
from satchel.hashing import file_sha256
from satchel.report.reading import Reading, unchecked
from satchel.source.checkpoint import Checkpoint
from satchel.validate.reading import compare
from satchel.validate.reference_pass import has_reference
from satchel.versions import found_here, source_hash
from satchel.workshop import Workshop

_FILE = "reading.json"
_TOOLS = ("torch", "transformers", "tokenizers", "accelerate", "safetensors", "gguf", "jinja2", "numpy", "ml_dtypes")
_TEXT_FILES = {".json", ".jinja", ".txt", ".model"}


def checked_reading(checkpoint: Checkpoint, assets: TextAssets, stop_ids: Sequence[int], workshop: Workshop) -> Reading:
    """transformers' word on how the source is read. assets, stop_ids: what a device gets of its text.

    Raises ReadingError naming what differs.
    """
    place = checkpoint.place
    if place is None:
        return unchecked("it is in no file")
    if not has_reference():
        return unchecked("torch and transformers are not installed")
    try:
        key = reading_key(checkpoint, place, assets, stop_ids)
    except PackageNotFoundError as missing:
        return unchecked(f"{missing.name} is not installed")
    with workshop.console.stage("Reading") as stage:
        folder = workshop.cache.find("reading", key)
        if folder is not None:
            stage.reused()
            return Reading.from_dict(json.loads((folder / _FILE).read_text(encoding="utf-8")))
        stage.note("beside transformers' own")
        reading = compare(checkpoint, place, assets, stop_ids)
        if reading.checked_by is None:
            stage.note(f"nobody checks it: {reading.reason}")
            return reading
        kept = canonical_json(reading.to_dict())
        workshop.cache.get_or_build("reading", key, lambda attempt: write_file(attempt / _FILE, kept))
        stage.note(f"as {reading.checked_by} reads it: logits within {reading.logits_relative:.1e} of the largest")
        return reading


def reading_key(checkpoint: Checkpoint, place: Path, assets: TextAssets, stop_ids: Sequence[int]) -> dict[str, Any]:
    """What the comparison depends on: the source and whatever lies beside it, what was made of its text, the code that
    reads and compares, and the packages that the other reading is made with."""
    program = assets.program.to_json().encode()
    return {
        "source": checkpoint.source.sha256,
        "beside": _beside(place),
        "text": [hashlib.sha256(part).hexdigest() for part in (assets.tokenizer_bytes, program)],
        "stop_ids": list(stop_ids),
        "code": source_hash("validate.reading", "source.directory", "source.gguf.checkpoint"),
        "tools": found_here(*_TOOLS),
    }


def _beside(place: Path) -> Mapping[str, str]:
    """transformers also reads files that the content hash does not cover, and chooses among several: file -> hash of
    what is text, size of what is not. A GGUF file is read alone."""
    if not place.is_dir():
        return {}
    files = [*place.iterdir(), *place.glob("additional_chat_templates/*")]
    return {
        file.relative_to(place).as_posix(): file_sha256(file)
        if file.suffix in _TEXT_FILES
        else str(file.stat().st_size)
        for file in sorted(files)
        if file.is_file()
    }
