"""What the real tier shares, because it takes long to make, and which of its tests may run at the same time."""

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from satchel.cache import Cache
from tiny_model import TINY_CONFIG, write_directory
from trained_model import trained_weights
from workplace import BUILD, Workplace, satchel

HERE = Path(__file__).parent
# What makes the real model's programs, and what uses them: two of the real model's lowerings would need 8 GB.
REAL_MODEL = {"test_device_api", "test_example_app", "test_litert_jvm", "test_model_library", "test_shrunk"}
# What lowers tiny models.
LOWERING = {
    "test_all_formats",
    "test_build",
    "test_commands",
    "test_coreml",
    "test_jvm",
    "test_kotlin_session",
    "test_light_core",
    "test_litert",
    "test_lowering",
    "test_mil_packages",
}


class OneProcessPerGroup(LoadScopeScheduling):
    """Gives a whole group of tests to one process, so that what they share is made once, and two lowerings of one group
    never meet. Every other file of this tier is a group of its own; a test of another tier is one by itself."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        if HERE.name not in file.parts:
            return nodeid
        return "real model" if file.stem in REAL_MODEL else "lowering" if file.stem in LOWERING else file.stem


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneProcessPerGroup:
    return OneProcessPerGroup(config, log)


@pytest.fixture(scope="session")
def one_build(tmp_path_factory: pytest.TempPathFactory, sdk_cache: Cache) -> Workplace:
    """With a cache of its own, which has nothing but what was compiled."""
    folder = tmp_path_factory.mktemp("work")
    model = write_directory(folder / "tiny", TINY_CONFIG, trained_weights())
    (folder / "cache").mkdir()
    for compiled in ("sdk", "host"):
        (sdk_cache.root / compiled).mkdir(exist_ok=True)
        (folder / "cache" / compiled).symlink_to(sdk_cache.root / compiled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATCHEL_CACHE", str(folder / "cache"))
        code, report, _ = satchel(*BUILD, model, "--context", 96, "--out", folder / "out", "--json")
    assert code == 0
    return Workplace(model, folder / "out", folder / "cache", report)


@pytest.fixture
def place(one_build: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The build, which is not to be changed, with its cache as the user's."""
    monkeypatch.setenv("SATCHEL_CACHE", str(one_build.cache))
    return one_build
