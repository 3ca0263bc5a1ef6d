"""The one list of backends."""

from collections.abc import Callable
from pathlib import Path

import pytest

from satchel.backends.registry import backend_of
from satchel.bundle.folder import Bundle
from satchel.errors import BundleError


def test_a_bundle_for_an_unknown_backend_is_refused(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    assert backend_of(make_bundle(tmp_path / "known")).name == "executorch"
    with pytest.raises(BundleError, match=r"'newer'.*only executorch, litert, coreml"):
        backend_of(make_bundle(tmp_path / "unknown", backend="newer"))
