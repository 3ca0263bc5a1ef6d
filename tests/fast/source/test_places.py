"""MODEL on this machine: a path is never asked of the hub, and what lies here counts before a built-in name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from satchel.cache import Cache
from satchel.console import Console
from satchel.errors import CorruptModelError, ModelNotFoundError
from satchel.source.remembered import remembered_model
from satchel.source.resolve import open_model
from satchel.tools import Tools
from satchel.workshop import Workshop

MakeDirectory = Callable[..., Path]
COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(hub_id: object) -> None:
        raise AssertionError(f"the hub was asked for {hub_id}")

    monkeypatch.setattr("satchel.source.resolve.open_hub", asked)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("dir/model.safetensors", "is a file, and a model is a folder.*Name the folder: dir"),
        ("dir/x", "a folder dir here, but no dir/x in it.*dir/x@main"),
        ("other/model.safetensors", "no model at other/model.safetensors"),
        ("other/X.GGUF", "no model at other/X.GGUF"),
        ("./x", "no model at ./x"),
        ("../a/b", "no model at ../a/b"),
        ("~/models", "no model at ~/models"),
        ("/no/such", "no model at /no/such"),
        ("x" * 300, "There is no model .x+"),
        ("/" + "x" * 300, "no model at /x+[.]{3}:"),
        ("a\0b", "There is no model"),
    ],
)
def test_a_path_is_never_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Cache, model: str, message: str
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "model.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=message):
        open_model(model, cache, Tools({}))


def test_a_revision_says_that_the_hub_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Cache) -> None:
    (tmp_path / "dir").mkdir()
    monkeypatch.chdir(tmp_path)
    for model in ("dir/x@main", "org/name"):
        with pytest.raises(AssertionError, match="the hub was asked"):
            open_model(model, cache, Tools({}))


def test_a_models_folder_counts_before_a_built_in_name(
    make_directory: MakeDirectory, monkeypatch: pytest.MonkeyPatch, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_directory("smollm2-135m-instruct")
    monkeypatch.chdir(folder.parent)
    found = remembered_model(folder.name, Workshop(cache, Tools({}), Console()))
    assert found.source.kind == "directory"
    assert "is taken, not the built-in model" in " ".join(capsys.readouterr().err.split())

    def fetched(*_: object) -> None:
        raise AssertionError("the built-in model was fetched")

    monkeypatch.setattr("satchel.source.resolve.fetch", fetched)
    (folder / "config.json").unlink()
    with pytest.raises(AssertionError, match="the built-in"):  # a folder that is no model is not in the way
        open_model(folder.name, cache, Tools({}))


def test_folders_of_the_hubs_cache_get_the_models_name(make_directory: MakeDirectory, cache: Cache) -> None:
    folder = make_directory()
    models = folder.with_name("models--Some-Org--Small_Model-1B")
    snapshot = models / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    for place in (models, snapshot):
        found = open_model(str(place), cache, Tools({}))
        assert found.model_id == "small-model-1b"
        assert (found.source.kind, found.source.reference) == ("directory", "Some-Org/Small_Model-1B")
        assert found.source.revision == COMMIT
        assert found.place == snapshot
    shutil.copytree(folder, models / "snapshots" / OTHER)
    with pytest.raises(CorruptModelError, match=f"several snapshots: name one, such as .*{COMMIT}"):
        open_model(str(models), cache, Tools({}))
    (models / "refs").mkdir()
    (models / "refs" / "main").write_text(OTHER)
    assert open_model(str(models), cache, Tools({})).source.revision == OTHER
    shutil.rmtree(models / "snapshots")
    with pytest.raises(CorruptModelError, match="without a snapshot"):
        open_model(str(models), cache, Tools({}))


def test_capitals_are_no_other_kind_of_file(make_gguf: Callable[..., Path], cache: Cache) -> None:
    path = make_gguf()
    capitals = path.rename(path.with_name("TINY.GGUF"))
    assert open_model(str(capitals), cache, Tools({})).model_id == "tiny"
