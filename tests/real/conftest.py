"""What the real tier shares, because it takes long to make."""

import pytest

from satchel.cache import Cache
from satchel.package.sdk import compile_sdk
from satchel.tools import Tools


@pytest.fixture(scope="session")
def sdk_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that has the SDK, compiled once for all tests."""
    cache = Cache(tmp_path_factory.mktemp("sdk") / "cache")
    compile_sdk(cache, Tools())
    return cache
