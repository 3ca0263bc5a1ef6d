"""The model libraries as an app finds them: their assets in an Android application, and the real model answering."""

from pathlib import Path

import pytest

from on_robolectric import run_model_library_tests
from satchel.cache import Cache
from satchel.cli import main
from satchel.source.alias import DEFAULT_MODEL


@pytest.fixture(scope="module")
def litert_build(tmp_path_factory: pytest.TempPathFactory, default_gguf: Path, sdk_cache: Cache) -> Path:
    """The default model's LiteRT build; like `default_build`, lowered in the user's cache."""
    out = tmp_path_factory.mktemp("litert") / "build"
    assert main(["build", DEFAULT_MODEL, "--backend", "litert", "--no-validate", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("backend", ["executorch", "litert"])
def test_an_android_app_uses_the_real_model_library(
    backend: str, request: pytest.FixtureRequest, sdk_cache: Cache, tmp_path: Path
) -> None:
    build = request.getfixturevalue("default_build" if backend == "executorch" else "litert_build")
    (library,) = (build / "android").glob("*.aar")
    report = run_model_library_tests(library, backend, sdk_cache, tmp_path)
    assert 'tests="4" errors="0" skipped="0" failures="0"' in report
