"""What the real tier shares, because it takes long to make."""

import pytest

from satchel.cache import Cache
from satchel.package.android.sdk import compile_sdk
from satchel.tools import Tools
from tiny_model import TINY_CONFIG, write_directory
from workplace import BUILD, Workplace, satchel, sure_weights


@pytest.fixture(scope="session")
def sdk_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that has the SDK, compiled once for all tests."""
    cache = Cache(tmp_path_factory.mktemp("sdk") / "cache")
    compile_sdk(cache, Tools())
    return cache


@pytest.fixture(scope="session")
def one_build(tmp_path_factory: pytest.TempPathFactory, sdk_cache: Cache) -> Workplace:
    folder = tmp_path_factory.mktemp("work")
    model = write_directory(folder / "tiny", TINY_CONFIG, sure_weights())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATCHEL_CACHE", str(sdk_cache.root))
        code, report, _ = satchel(*BUILD, model, "--context", 96, "--out", folder / "out", "--json")
    assert code == 0
    return Workplace(model, folder / "out", sdk_cache.root, report)


@pytest.fixture
def place(one_build: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The build, which is not to be changed, with its cache as the user's."""
    monkeypatch.setenv("SATCHEL_CACHE", str(one_build.cache))
    return one_build
