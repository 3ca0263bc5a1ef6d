"""What the other commands make of a build: validate, generate, inspect, and what they say of damage."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satchel.bundle.folder import read_bundle, write_manifest
from satchel.formats import pte
from tiny_model import TINY_CONFIG, random_weights, write_directory, write_json
from trained_model import trained_weights
from workplace import Workplace, satchel


def test_validate_says_the_same_again(place: Workplace, tmp_path: Path) -> None:
    code, report, _ = satchel("validate", place.out / "bundle", "--json")
    assert code == 0
    built = place.report["backends"]["executorch"]
    again = report["backends"]["executorch"]
    assert again["weights_equal"] is True
    assert report["reading"] == place.report["reading"]
    assert report["reading"]["prompts"] == 3
    assert again["kl_mean"] == pytest.approx(built["kl_mean"], rel=1e-6)
    text = tmp_path / "mine.txt"
    text.write_text("A text of one's own, long enough to say something.", encoding="utf-8")
    code, report, _ = satchel("validate", place.out / "bundle" / "executorch", "--text", text, "--json")
    assert code == 0
    assert [one["name"] for one in report["backends"]["executorch"]["texts"]] == ["mine.txt", "whole context"]
    text.write_text("", encoding="utf-8")
    code, _, said = satchel("validate", place.out / "bundle", "--text", text)
    assert code == 2
    assert "at least 2" in said


def test_validate_needs_the_model_that_the_bundle_was_made_from(place: Workplace, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(place.out / "bundle", bundle)
    shutil.copytree(place.cache / "skeleton", tmp_path / "cache" / "skeleton")  # the graph proof is not the point here
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATCHEL_CACHE", str(tmp_path / "cache"))
        code, _, said = satchel("validate", bundle)
        assert code == 4
        assert "--model" in said
        text = tmp_path / "mine.txt"
        text.write_text("Where the model lies is up to its owner.", encoding="utf-8")
        moved = shutil.copytree(place.model, tmp_path / "moved")
        code, report, _ = satchel("validate", bundle, "--model", moved, "--text", text, "--json")
        assert code == 0
        assert report["backends"]["executorch"]["weights_equal"] is True
        shutil.rmtree(moved)
        code, _, said = satchel("validate", bundle, "--text", text)
        assert code == 4
        assert str(moved) in said
        assert "--model MODEL" in said
        other = write_directory(tmp_path / "other", TINY_CONFIG, trained_weights(9))
        code, _, said = satchel("validate", bundle, "--model", other)
        assert code == 4
        assert "content hash" in said


def test_damage_is_named_and_a_wrong_weight_fails_its_proof(place: Workplace, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(place.out / "bundle" / "executorch", folder)
    prompt = folder / "prompt.json"
    good = prompt.read_bytes()
    prompt.write_bytes(good.replace(b"{", b"(", 1))
    code, _, said = satchel("generate", folder, "hello")
    assert code == 4
    assert "prompt.json is damaged: its sha256" in said
    prompt.write_bytes(good)
    bundle = read_bundle(folder)
    slot = next(s for s in json.loads(bundle.file("slots").read_text())["slots"] if s["part"] == "offset_scale")
    program = bundle.file("program")
    data = bytearray(program.read_bytes())
    data[slot["offset"]] ^= 1
    program.write_bytes(data)
    for command in (["validate", folder], ["generate", folder, "hello"]):
        code, _, said = satchel(*command)
        assert code == 4
        assert "model.pte is damaged" in said
    write_manifest(folder, bundle.manifest, {one.role: one.file for one in bundle.manifest.artifacts})
    text = tmp_path / "short.txt"
    text.write_text("Behaviour hardly sees one bit.", encoding="utf-8")
    code, report, said = satchel("validate", folder, "--text", text, "--json")
    assert code == 3
    assert "weights read back from the artifact differ" in said
    assert report["passed"] is False
    part = report["backends"]["executorch"]
    assert part["weights_equal"] is False
    assert all(gate["passed"] for gate in part["gates"].values())


def test_generate_is_repeatable(place: Workplace) -> None:
    def answer(*options: object) -> Any:
        code, found, _ = satchel("generate", place.out / "bundle", "hello", "--max-tokens", 12, "--json", *options)
        assert code == 0
        return found

    greedy = answer()
    assert greedy.keys() == {"text", "ids", "finish_reason", "stats"}
    assert greedy["finish_reason"] in {"stop", "length"}
    assert answer()["ids"] == greedy["ids"]
    sampled = answer("--temperature", 50, "--seed", 7)
    assert answer("--temperature", 50, "--seed", 7)["ids"] == sampled["ids"]
    assert answer("--temperature", 50, "--seed", 8)["ids"] != sampled["ids"]
    assert answer("--raw")["stats"]["prompt_tokens"] == len("hello")


def test_generate_asks_which_of_several_bundles(place: Workplace, tmp_path: Path) -> None:
    for name in ("executorch", "litert"):
        shutil.copytree(place.out / "bundle" / "executorch", tmp_path / name)
    manifest = tmp_path / "litert" / "manifest.json"
    write_json(manifest, {**json.loads(manifest.read_text()), "backend": "litert"})
    code, _, said = satchel("generate", tmp_path, "hello")
    assert code == 2
    assert "executorch|litert" in said
    write_json(manifest, {**json.loads(manifest.read_text()), "backend": "newer"})
    for command in (["generate", tmp_path / "litert", "hello"], ["validate", tmp_path]):
        code, _, said = satchel(*command)
        assert code == 4
        assert "'newer', and this Satchel has only executorch" in said
    shutil.copytree(tmp_path / "executorch", tmp_path / "twin")
    code, _, said = satchel("generate", tmp_path, "hello", "--backend", "executorch")
    assert code == 2
    assert str(tmp_path / "twin") in said


def test_inspect_lists_every_tensor(place: Workplace, tmp_path: Path) -> None:
    program = place.out / "bundle" / "executorch" / pte.PROGRAM_FILE
    code, listing, _ = satchel("inspect", place.out / "bundle", "--json")
    assert code == 0
    named = {row["name"] for row in listing["tensors"]}
    assert named >= random_weights(TINY_CONFIG).keys()
    linears = [row for row in listing["tensors"] if row["part"] == "codes" and row["dtype"] == "int4"]
    assert len(linears) == 7 * TINY_CONFIG["num_hidden_layers"]
    assert all(row["bytes"] == np.prod(row["shape"]) // 2 for row in linears)
    code, alone, _ = satchel("inspect", program, "--json")
    assert code == 0
    assert len(alone["tensors"]) == len(listing["tensors"])
    assert satchel("inspect", place.out / "report.json")[0] == 2
    damaged = tmp_path / "damaged.pte"
    data = bytearray(program.read_bytes())
    data[40:3000] = np.random.default_rng(1).bytes(2960)
    damaged.write_bytes(data)
    code, _, said = satchel("inspect", damaged)
    assert code == 4
    assert "damaged.pte is damaged" in said
