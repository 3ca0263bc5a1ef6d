"""One tiny model in all three formats: the same codes, one verdict, and what each format takes besides."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from litert_lm_chat import chat, rendered
from satchel.bundle.folder import read_bundle, write_manifest
from satchel.cache import Cache
from satchel.reference.prompt import KeptAfter, PromptProgram, RoleForm, Turn
from satchel.runtimes.jvm import build_host_engine, server_command
from satchel.tools import Tools
from tiny_model import TINY_CONFIG, random_weights
from workplace import Workplace, digests, satchel


def folding(program: PromptProgram) -> Iterator[PromptProgram]:
    """Programs with what templates can do beyond writing turn after turn."""
    roles = {
        "system": RoleForm((), ("\n\n",), trim=False),
        "user": replace(program.roles["user"], trim=True),
        "assistant": replace(program.roles["assistant"], kept_after=KeptAfter("</think>", "\n")),
    }
    program = replace(program, roles=roles, default_system=(), system="folded", order="alternating", end=("end",))
    yield program
    yield replace(program, folded_trim="all")
    yield replace(program, system="folded_last", last="user")


def test_all_formats_hold_the_same_codes(place: Workplace, tmp_path: Path) -> None:
    """One build, three programs, one set of codes, a library of each that the SDK has an engine for."""
    code, report, _ = satchel("build", place.model, "--target", "all", "--context", 96, "--out", tmp_path, "--json")
    assert code == 0
    assert report["passed"] is True
    backends = ["coreml", "executorch", "litert"]
    assert sorted(report["backends"]) == backends
    assert all(part["weights_equal"] for part in report["backends"].values())
    tensors = len(random_weights(TINY_CONFIG))
    assert report["same_codes"] == {"backends": backends, "tensors": tensors, "different": []}
    assert report["backends"]["executorch"]["sha256"] == place.report["backends"]["executorch"]["sha256"]
    libraries = {file.name for file in (tmp_path / "android").glob("*.aar")}
    assert libraries == {"tiny-int4-0.1.0.aar", "tiny-int4-litert-0.1.0.aar"}
    with zipfile.ZipFile(tmp_path / "android" / "tiny-int4-litert-0.1.0.aar") as aar:
        assets = {
            name.rpartition("/")[2] for name in aar.namelist() if name.startswith("assets/satchel/tiny-int4-litert/")
        }
    assert assets == {"manifest.json", "model.tflite", "tokenizer.bin", "prompt.json", "golden.json"}
    litert = tmp_path / "android" / "maven" / "dev" / "satchel"
    assert "satchel-litert" in (litert / "tiny-int4-litert" / "0.1.0" / "tiny-int4-litert-0.1.0.pom").read_text()
    pom = (litert / "satchel-litert" / "0.1.0" / "satchel-litert-0.1.0.pom").read_text()
    assert "<groupId>com.google.ai.edge.litert</groupId>" in pom
    code, again, _ = satchel("validate", tmp_path / "bundle", "--json")
    assert code == 0
    assert sorted(again["backends"]) == backends
    assert satchel("generate", tmp_path / "bundle", "hello")[0] == 2
    bundle = tmp_path / "bundle"
    code, answer, _ = satchel("generate", bundle, "hello", "--backend", "litert", "--max-tokens", 5, "--json")
    assert code == 0
    assert answer["stats"]["generated_tokens"] == 5
    code, on_jvm, _ = satchel(
        "validate", bundle, "--backend", "executorch", "--backend", "litert", "--target", "jvm", "--json"
    )
    assert code == 0
    for backend in ("executorch", "litert"):
        assert on_jvm["backends"][backend]["targets"]["jvm"]["gates"]["kl_mean"]["passed"] is True
    assert conversation_on_jvm(bundle / "litert", place.cache) == conversation_on_jvm(
        bundle / "executorch", place.cache
    )
    code, listing, _ = satchel("inspect", bundle, "--json")
    assert code == 0
    for program in ("model.pte", "model.tflite", "model.mlpackage"):
        rows = [row for row in listing["tensors"] if row["artifact"] == program]
        assert {row["name"] for row in rows} >= random_weights(TINY_CONFIG).keys()
        int4 = [row for row in rows if row["part"] == "codes" and row["dtype"] == "int4"]
        assert len(int4) == 7 * TINY_CONFIG["num_hidden_layers"]
    prompt, ours, _ = chat(bundle / "litert", "hi", tmp_path, max_tokens=4)
    assert prompt == ours
    program = PromptProgram.from_json((bundle / "litert" / "prompt.json").read_text(encoding="utf-8"))
    for folded in folding(program):
        turns = [
            Turn("system", "Be brief. "),
            Turn("user", "a"),
            Turn("assistant", "</think>\n\nb"),
            Turn("user", " hi "),
        ]
        assert rendered(bundle / "litert", folded, turns, tmp_path) == folded.text(turns)
    assert (
        satchel("build", place.model, "--context", 96, "--out", tmp_path, "--backend", "litert", "--no-litertlm")[0]
        == 0
    )
    assert not (bundle / "litert" / "model.litertlm").exists()
    code_of_one_tensor_changed(bundle / "litert")
    code, changed, said = satchel("validate", bundle, "--json")
    assert code == 3
    assert changed["passed"] is False
    assert changed["same_codes"]["different"] == ["model.layers.1.mlp.up_proj.weight"]
    assert "coreml, executorch and litert differ in model.layers.1.mlp.up_proj.weight" in said


def test_an_ios_build_needs_no_maven_and_leaves_android_alone(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says on which units the program may run, and each of the package's files is under the artifact's hash."""
    shutil.copytree(place.out, tmp_path / "out", symlinks=True)
    before = digests(tmp_path / "out" / "android")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, report, _ = satchel(
        "build", place.model, "--target", "ios", "--context", 96, "--out", tmp_path / "out", "--json"
    )
    assert code == 0
    assert sorted(report["backends"]) == ["coreml", "executorch"]
    assert report["same_codes"]["backends"] == ["coreml", "executorch"]
    assert digests(tmp_path / "out" / "android") == before
    bundle = read_bundle(tmp_path / "out" / "bundle" / "coreml")
    assert bundle.manifest.requires.compute_units == "cpuAndGPU"
    assert (bundle.manifest.variant, bundle.manifest.notes) == ("", ())
    package = bundle.file("program")
    sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests(package).items()))
    assert bundle.manifest.artifact("program").sha256 == hashlib.sha256(sums.encode()).hexdigest()
    for file in package.rglob("*"):
        if file.is_file():
            good = file.read_bytes()
            file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
            assert satchel("generate", bundle.path, "hello")[0] == 4
            file.write_bytes(good)
    code, answer, _ = satchel("generate", bundle.path, "hello", "--max-tokens", 5, "--json")
    assert code == 0
    assert answer["stats"]["generated_tokens"] == 5


def test_native_offsets_are_an_option_that_says_what_it_is(place: Workplace, tmp_path: Path) -> None:
    shutil.copytree(place.out, tmp_path / "out", symlinks=True)
    words = ("build", place.model, "--context", 96, "--out", tmp_path / "out", "--coreml-offset", "native", "--json")
    code, _, said = satchel(*words)
    assert code == 2
    assert "--target ios" in said
    code, report, said = satchel(*words, "--target", "ios")
    assert code == 0
    assert "has not been run on a device" in said
    assert report["same_codes"]["backends"] == ["coreml", "executorch"]  # codes and scales; offsets have another form
    assert report["same_codes"]["different"] == []
    bundle = read_bundle(tmp_path / "out" / "bundle" / "coreml")
    assert bundle.manifest.variant == "native-offset"
    assert "has not been run on a device" in " ".join(bundle.manifest.notes)
    assert satchel("validate", bundle.path)[0] == 0


def conversation_on_jvm(bundle: Path, cache: Path) -> list[str]:
    """Two turns through the Kotlin engine: the files that make the prompts' ids, their number, the answers' ids."""
    host = build_host_engine(Cache(cache), Tools(), bundle.name)
    command = server_command(host, bundle, Tools(), threads=1)
    java = command[: command.index("dev.satchel.host.EngineServer")]
    turns = ["hello", "Größe 🙂"]
    run = subprocess.run(
        [*java, "dev.satchel.host.Chat", bundle, *turns, "--ids", "--max-tokens", "4"],
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=True,
        capture_output=True,
        text=True,
    )
    prompts = [line.split(" + ")[0] for line in run.stderr.splitlines() if " + " in line]
    assert len(prompts) == len(turns)
    manifest = read_bundle(bundle).manifest
    files = [manifest.artifact(role).sha256 for role in ("tokenizer", "prompt")]
    return [*files, *prompts, *run.stdout.splitlines()]


def code_of_one_tensor_changed(bundle: Path) -> None:
    """One bit, and a manifest that agrees with it."""
    slots = json.loads((bundle / "slots.json").read_text())["slots"]
    slot = next(s for s in slots if s["tensor"] == "model.layers.1.mlp.up_proj.weight" and s["part"] == "codes")
    program = bytearray((bundle / "model.tflite").read_bytes())
    program[slot["offset"]] ^= 1
    (bundle / "model.tflite").write_bytes(program)
    manifest = read_bundle(bundle).manifest
    write_manifest(bundle, manifest, {artifact.role: artifact.file for artifact in manifest.artifacts})
