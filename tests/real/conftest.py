"""What the real tier shares, because it takes long to make."""

from pathlib import Path

import pytest

from satchel.cache import Cache
from satchel.cli import main
from satchel.package.sdk import compile_sdk
from satchel.source.alias import DEFAULT_MODEL
from satchel.tools import Tools


@pytest.fixture(scope="session")
def sdk_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that has the SDK, compiled once for all tests."""
    cache = Cache(tmp_path_factory.mktemp("sdk") / "cache")
    compile_sdk(cache, Tools())
    return cache


@pytest.fixture(scope="session")
def default_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model's ExecuTorch build: bundle/ and android/maven. Its behaviour is not measured; it is lowered in
    the user's cache, where `make android` then finds it."""
    out = tmp_path_factory.mktemp("default") / "build"
    assert main(["build", DEFAULT_MODEL, "--backend", "executorch", "--no-validate", "--out", str(out)]) == 0
    return out
