"""The light core without torch: an installed wheel, an environment with only the base requirements, an empty folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from satchel.bundle.folder import Bundle
from satchel.cache import Cache
from satchel.lower.executorch import lower_skeleton
from satchel.quantize.planning import plan_for
from satchel.quantize.recipe import load_recipe
from satchel.skeleton.spec import ProgramSpec
from satchel.source.directory import open_directory

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the wheel and the base requirements, and no torch."""
    folder = tmp_path_factory.mktemp("light")
    run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)], CHECKOUT)
    run([sys.executable, "-m", "venv", str(folder / "venv")], folder)
    bin_folder = folder / "venv" / "bin"
    install = [str(bin_folder / "python"), "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    run([*install, "--require-hashes", "--requirement", str(CHECKOUT / "requirements" / "base.txt")], folder)
    run([*install, str(next(folder.glob("*.whl")))], folder)
    found = run([str(bin_folder / "python"), "-m", "pip", "list", "--format", "json"], folder)
    assert not {"torch", "executorch", "transformers"} & {entry["name"] for entry in json.loads(found)}
    return bin_folder


def run(command: list[str], folder: Path) -> str:
    """Standard output of a command that must succeed, run in `folder` without this process' Python path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("words", "shown"),
    [(["--help"], "Usage: satchel"), (["models"], "smollm2-135m-instruct"), (["recipes"], "int4")],
)
def test_commands_answer(light: Path, tmp_path: Path, words: list[str], shown: str) -> None:
    assert shown in run([str(light / "satchel"), *words], tmp_path)


def test_lowering_and_running_name_what_is_missing(
    light: Path, tmp_path: Path, make_directory: Callable[..., Path], sdk_cache: Cache
) -> None:
    build = [light / "satchel", "build", make_directory(), "--context", "64"]
    environment = {**os.environ, "SATCHEL_CACHE": str(sdk_cache.root)}  # compiled: neither Maven nor Java is missed
    done = subprocess.run(build, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "make venv" in done.stderr


def test_quantize_fill_inspect_and_package(
    light: Path,
    tmp_path: Path,
    make_directory: Callable[..., Path],
    make_bundle: Callable[..., Bundle],
    sdk_cache: Cache,
) -> None:
    model = make_directory("model")
    checkpoint = open_directory(model)
    plan = plan_for(load_recipe("int4"), checkpoint)
    spec = ProgramSpec(checkpoint.config, plan, context_length=64, prefill_chunk=8, bos_id=256, stop_ids=(257,))
    (tmp_path / "skeleton").mkdir()
    lower_skeleton(spec, tmp_path / "skeleton", proof={})
    bundle = make_bundle(tmp_path / "bundle")
    empty = tmp_path / "empty"
    empty.mkdir()
    script = str(Path(__file__).with_name("light_core.py"))
    arguments = [model, tmp_path / "skeleton", bundle.path, sdk_cache.root, empty]
    run([str(light / "python"), script, *map(str, arguments)], empty)
    listed = json.loads(run([str(light / "satchel"), "inspect", str(empty / "model.pte"), "--json"], empty))
    assert listed
