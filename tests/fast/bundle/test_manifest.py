"""The bundle on disk: what is kept, what is refused, and that a half-written one never takes the good one's place."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from satchel.bundle.folder import Bundle, find_bundles, read_bundle, verify_bundle
from satchel.bundle.manifest import Manifest
from satchel.errors import BundleError
from satchel.files import canonical_json

MakeBundle = Callable[..., Bundle]


def edit_manifest(bundle: Bundle, edit: Callable[[Any], object]) -> None:
    file = bundle.path / "manifest.json"
    data = json.loads(file.read_text())
    edit(data)
    file.write_bytes(canonical_json(data))


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tmp_path / "b")
    manifest = bundle.manifest
    assert manifest.library_name == "tiny-int4"
    assert replace(manifest, backend="litert").library_name == "tiny-int4-litert"
    assert manifest.special_ids.stop == (2,)
    assert manifest.special_ids.pad is None
    assert manifest.requires.cpu_features == {"arm64-v8a": ("asimddp",)}
    assert manifest.verdict.gates == {"kl_mean": 0.035, "top1": 0.88}
    assert bundle.file("program").read_bytes().startswith(b"program of tiny")
    assert canonical_json(manifest.to_json()) == (bundle.path / "manifest.json").read_bytes()
    verify_bundle(bundle)


def test_two_writes_give_the_same_bytes(tmp_path: Path, make_bundle: MakeBundle) -> None:
    one, two = make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two")
    assert (one.path / "manifest.json").read_bytes() == (two.path / "manifest.json").read_bytes()


def test_unknown_fields_are_kept_wherever_they_stand(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tmp_path / "b")

    def add_fields(data: Any) -> None:
        data["signature"] = {"key": "k"}
        data["model"]["family"] = "llama"
        data["model"]["source"]["mirror"] = "m"
        data["artifacts"][0]["compressed"] = True

    edit_manifest(bundle, add_fields)
    written = read_bundle(bundle.path).manifest.to_json()
    assert written["signature"] == {"key": "k"}
    assert written["model"]["family"] == "llama"
    assert written["model"]["source"]["mirror"] == "m"
    assert written["artifacts"][0]["compressed"] is True
    assert written == json.loads((bundle.path / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda data: data.update(schema_version=2), "schema_version is 2"),
        (lambda data: data.pop("recipe"), "'recipe' is missing"),
        (lambda data: data.update(context_length="2048"), "'context_length' is '2048'"),
        (lambda data: data["verdict"].update(status="good"), "verdict.status is 'good'"),
        (lambda data: data["artifacts"][0].update(file="../model.pte"), "'../model.pte' is not a plain file name"),
        (lambda data: data["artifacts"][0].update(sha256="AB" * 32), "not 64 lowercase hex digits"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(
    tmp_path: Path, make_bundle: MakeBundle, edit: Callable[[Any], object], named: str
) -> None:
    bundle = make_bundle(tmp_path / "b")
    edit_manifest(bundle, edit)
    with pytest.raises(BundleError) as refused:
        read_bundle(bundle.path)
    assert named in str(refused.value)


def test_damage_is_found_and_named(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tmp_path / "b")
    program = bundle.file("program")
    content = program.read_bytes()

    program.write_bytes(b"X" + content[1:])
    with pytest.raises(BundleError, match=r"model\.pte is damaged"):
        verify_bundle(read_bundle(bundle.path))

    program.write_bytes(content[:-1])
    with pytest.raises(BundleError, match=r"model\.pte has 1599 bytes, the manifest says 1600"):
        read_bundle(bundle.path)

    program.unlink()
    with pytest.raises(BundleError, match=r"model\.pte is missing"):
        read_bundle(bundle.path)


def test_a_missing_role_names_what_there_is(tmp_path: Path, make_bundle: MakeBundle) -> None:
    manifest: Manifest = make_bundle(tmp_path / "b").manifest
    with pytest.raises(BundleError, match=r"no artifact of the role 'vision' .*program, tokenizer_json"):
        manifest.artifact("vision")


def test_a_bundle_or_the_folder_above_it(tmp_path: Path, make_bundle: MakeBundle) -> None:
    second = make_bundle(tmp_path / "bundle" / "litert", backend="litert")
    first = make_bundle(tmp_path / "bundle" / "executorch")
    make_bundle(tmp_path / "bundle" / ".executorch.previous")  # left by a build that was killed
    assert find_bundles(first.path) == [first]
    assert find_bundles(tmp_path / "bundle") == [first, second]
    with pytest.raises(BundleError, match="is no bundle and holds none"):
        find_bundles(tmp_path)
    with pytest.raises(BundleError, match="does not exist"):
        find_bundles(tmp_path / "nothing")
