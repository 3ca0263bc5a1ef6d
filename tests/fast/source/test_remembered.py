"""A bundle's float reference: found by its content hash where the model lay, else asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from satchel.cache import Cache
from satchel.console import Console
from satchel.errors import ReferenceMissingError
from satchel.source.remembered import reference_of, remembered_model
from satchel.tools import Tools
from satchel.workshop import Workshop
from tiny_model import TINY_CONFIG, random_weights


def workshop(tmp_path: Path) -> Workshop:
    return Workshop(Cache(tmp_path / "cache"), Tools(), Console.quiet())


def test_a_model_that_moved_is_asked_for(make_directory: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_directory("tiny")
    sha256 = remembered_model(str(folder), workshop(tmp_path)).source.sha256
    assert reference_of(sha256, None, workshop(tmp_path)).source.sha256 == sha256
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(ReferenceMissingError, match=r"no longer there.*--model MODEL"):
        reference_of(sha256, None, workshop(tmp_path))
    assert reference_of(sha256, str(moved), workshop(tmp_path)).source.sha256 == sha256
    (moved / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ReferenceMissingError, match=r"can't be used any more.*--model MODEL"):
        reference_of(sha256, None, workshop(tmp_path))


def test_another_model_is_no_reference(make_directory: Callable[..., Path], tmp_path: Path) -> None:
    other = make_directory("other", arrays=random_weights(TINY_CONFIG, seed=2))
    with pytest.raises(ReferenceMissingError, match=r"content hash.*--model MODEL"):
        reference_of("ab" * 32, str(other), workshop(tmp_path))
    with pytest.raises(ReferenceMissingError, match=r"not in the cache.*--model MODEL"):
        reference_of("cd" * 32, None, workshop(tmp_path))
