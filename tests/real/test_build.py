"""The whole road on a tiny model, through the command line: build, validate, generate, inspect, and what goes wrong."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litert_lm_chat import chat, rendered
from satchel.bundle import find_bundles, read_bundle, verify_bundle, write_manifest
from satchel.cache import Cache
from satchel.cli import main
from satchel.formats import pte
from satchel.reference.prompt import KeptAfter, PromptProgram, RoleForm, Turn
from satchel.runtimes.jvm import build_host_engine, server_command
from satchel.tools import Tools
from tiny_model import TINY_CONFIG, Arrays, random_weights, write_directory, write_json

ARTIFACT_KEYS = {
    "artifact", "bytes", "bits_per_weight", "kl_mean", "kl_p99", "top1", "ppl_ratio", "tokens", "graph_max_abs",
    "weights_equal", "load_s", "prefill_tps", "decode_tps", "peak_rss_mb", "gates", "targets",
}  # fmt: skip
SYMMETRIC = Path(__file__).parents[1] / "data" / "int4-symmetric.toml"


BUILD = ("build", "--backend", "executorch")


@dataclass(frozen=True)
class Workplace:
    """A model, and one good build of it, in a folder with its own cache."""

    model: Path
    out: Path
    cache: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, sdk_cache: Cache) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("work")
    model = write_directory(folder / "tiny", TINY_CONFIG, sure_weights())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATCHEL_CACHE", str(sdk_cache.root))
        code, report, _ = satchel(*BUILD, model, "--context", 96, "--out", folder / "out", "--json")
        assert code == 0
        yield Workplace(model, folder / "out", sdk_cache.root, report)


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


def sure_weights(seed: int = 1) -> Arrays:
    """Random weights whose large tied table makes the model expect the token it has just read: 4 bits don't shake that,
    as they would the near-ties of a merely random model."""
    weights = random_weights(TINY_CONFIG, seed)
    weights["model.embed_tokens.weight"] *= np.float32(10)
    return weights


def satchel(*words: object) -> tuple[int, Any, str]:
    """Exit code, the JSON object of standard output (None if there is none), standard error."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, json.loads(out.getvalue()) if out.getvalue().startswith("{") else None, err.getvalue()


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_build_passes_and_reports_every_figure(place: Workplace) -> None:
    assert place.report["passed"] is True
    part = place.report["backends"]["executorch"]
    assert part.keys() >= ARTIFACT_KEYS
    assert part["weights_equal"] is True
    assert {"graph_max_abs", "kl_mean", "top1", "size_off_prediction"} <= part["gates"].keys()
    assert all(gate["passed"] for gate in part["gates"].values())
    assert part["targets"]["host"]["kl_mean"] == part["kl_mean"]
    assert sum(part["histogram"]["counts"]) == part["tokens"]
    worst = [one["kl"] for one in part["worst"]]
    assert len(worst) == 10
    assert worst == sorted(worst, reverse=True)
    assert worst[0] >= part["kl_p99"]
    assert all(one["original"][0]["probability"] <= 1 and one["before"] for one in part["worst"])
    assert {"passed", "backends"} <= place.report.keys()
    assert json.loads((place.out / "report.json").read_text()) == place.report
    assert "<html" in (place.out / "report.html").read_text()


def test_the_bundle_is_complete_and_says_what_it_is(place: Workplace) -> None:
    bundle = read_bundle(place.out / "bundle" / "executorch")
    verify_bundle(bundle)
    manifest = bundle.manifest
    assert (manifest.model.id, manifest.recipe, manifest.backend) == ("tiny", "int4", "executorch")
    assert (manifest.context_length, manifest.vocab_size) == (96, TINY_CONFIG["vocab_size"])
    assert manifest.verdict.status == "passed"
    assert manifest.special_ids.stop == (257, 258)
    files = {"model.pte", "tokenizer.json", "tokenizer.bin", "prompt.json", "golden.json", "slots.json"}
    assert {path.name for path in bundle.path.iterdir()} == files | {"manifest.json"}
    slots = json.loads(bundle.file("slots").read_text())["slots"]
    assert {slot["tensor"] for slot in slots} == {*random_weights(TINY_CONFIG), "lm_head.weight"}
    golden = json.loads(bundle.file("golden").read_text())
    assert len(golden["teacher_forced"]["log_probabilities"]) == len(golden["teacher_forced"]["ids"]) - 1
    measured = {"kl_mean", "decode_tps"}
    assert not measured & json.loads((bundle.path / "manifest.json").read_text()).keys()


def test_the_maven_folder_has_the_model_and_the_sdk(place: Workplace) -> None:
    engines = {"satchel-executorch": "aar", "satchel-litert": "aar"}
    libraries = {"satchel-core": "jar", "satchel-android": "aar", **engines, "tiny-int4": "aar"}
    group = place.out / "android" / "maven" / "dev" / "satchel"
    assert {path.name for path in group.iterdir()} == libraries.keys()
    for artifact, kind in libraries.items():
        files = {path.name for path in (group / artifact / "0.1.0").iterdir()}
        assert files >= {f"{artifact}-0.1.0.{kind}", f"{artifact}-0.1.0.pom"}
    assert (place.out / "android" / "tiny-int4-0.1.0.aar").is_file()


def test_a_second_build_elsewhere_gives_the_same_bytes(place: Workplace, tmp_path: Path) -> None:
    """With a cache that has nothing but the SDK, so that everything is lowered, filled and measured again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATCHEL_CACHE", str(tmp_path / "cache"))
        (tmp_path / "cache").mkdir()
        shutil.copytree(place.cache / "sdk", tmp_path / "cache" / "sdk")
        assert satchel(*BUILD, place.model, "--context", 96, "--out", tmp_path / "out")[0] == 0
    for part in ("bundle", "android"):
        assert digests(tmp_path / "out" / part) == digests(place.out / part)


def test_a_build_of_what_is_there_repeats_nothing(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("this was done before")

    monkeypatch.setattr("satchel.stages._compile_text", unwanted)
    monkeypatch.setattr("satchel.stages.quantize", unwanted)
    monkeypatch.setattr("satchel.validate.graph.prove", unwanted)
    monkeypatch.setattr("satchel.lower.executorch.lower_skeleton", unwanted)
    monkeypatch.setattr("satchel.package.sdk._build", unwanted)
    monkeypatch.setattr("satchel.validate.prove.prove_behaviour", unwanted)
    before = digests(place.out)
    assert satchel(*BUILD, place.model, "--context", 96, "--out", place.out)[0] == 0
    assert digests(place.out) == before
    code, _, said = satchel(*BUILD, place.model, "--context", 95, "--out", tmp_path)
    assert code == 1
    assert "this was done before" in said  # so the traps are where the work is


def test_a_failed_gate_packs_nothing_and_leaves_the_last_good_build(place: Workplace, tmp_path: Path) -> None:
    recipe = tmp_path / "strict.toml"
    recipe.write_text(SYMMETRIC.read_text().replace("kl_mean_max = 0.035", "kl_mean_max = 1e-9"))
    before = {part: digests(place.out / part) for part in ("bundle", "android")}
    code, report, said = satchel(*BUILD, place.model, "--context", 96, "--out", place.out, "--recipe", recipe, "--json")
    assert code == 3
    value = report["backends"]["executorch"]["kl_mean"]
    assert f"kl_mean is {value:.4g} and must be at most 1e-09" in said
    assert "--recipe int4" in said
    assert report["passed"] is False
    assert json.loads((place.out / "rejected" / "report.json").read_text()) == report
    assert find_bundles(place.out / "rejected" / "bundle")[0].manifest.recipe == "int4-symmetric"
    assert find_bundles(place.out / "rejected" / "bundle")[0].manifest.verdict.status == "failed"
    assert {part: digests(place.out / part) for part in before} == before
    assert satchel(*BUILD, place.model, "--context", 96, "--out", place.out)[0] == 0
    assert not (place.out / "rejected").exists()


def test_a_fine_tune_reuses_the_skeleton(place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("lowered again")

    monkeypatch.setattr("satchel.validate.graph.prove", unwanted)
    monkeypatch.setattr("satchel.lower.executorch.lower_skeleton", unwanted)
    fine_tune = write_directory(tmp_path / "tuned", TINY_CONFIG, sure_weights(2), dtype="BF16")
    code, report, _ = satchel(*BUILD, fine_tune, "--context", 96, "--out", tmp_path / "out", "--no-validate", "--json")
    assert code == 0
    part = report["backends"]["executorch"]
    assert part["verdict"] == "weights-only"
    assert part["weights_equal"] is True
    assert part["kl_mean"] is None
    assert part["graph_max_abs"] == place.report["backends"]["executorch"]["graph_max_abs"]
    bundle = read_bundle(tmp_path / "out" / "bundle" / "executorch")
    assert bundle.manifest.verdict.status == "weights-only"
    assert "teacher_forced" not in json.loads(bundle.file("golden").read_text())


@pytest.mark.parametrize(
    ("moment", "context"),
    [
        ("satchel.lower.executorch.lower", 33),  # a context that is not lowered yet
        ("satchel.formats.pte.fill", 96),
        ("satchel.validate.prove.prove_behaviour", 96),
    ],
)
@pytest.mark.parametrize("what", [KeyboardInterrupt, RuntimeError])
def test_a_build_that_breaks_off_leaves_everything_as_it_was(
    place: Workplace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    context: int,
    what: type[BaseException],
) -> None:
    other = write_directory(tmp_path / "tiny", TINY_CONFIG, sure_weights(3))
    before, listed = digests(place.out), set(place.out.rglob("*"))
    reached = []

    def breaks(*arguments: Any, **_: Any) -> None:
        reached.append(moment)
        with suppress(IndexError, TypeError):
            Path(arguments[2]).write_bytes(b"half")
        raise what

    with monkeypatch.context() as patch:
        patch.setattr(moment, breaks)
        code, _, said = satchel(*BUILD, other, "--context", context, "--out", place.out)
    assert reached == [moment]
    assert code == (130 if what is KeyboardInterrupt else 1)
    if what is KeyboardInterrupt:
        assert "resumes" in said
    assert digests(place.out) == before
    assert set(place.out.rglob("*")) == listed
    assert not [path for path in place.cache.rglob("*") if path.name.startswith(".")]
    assert satchel(*BUILD, other, "--context", 96, "--out", tmp_path / "out", "--no-validate")[0] == 0


def test_validate_says_the_same_again(place: Workplace, tmp_path: Path) -> None:
    code, report, _ = satchel("validate", place.out / "bundle", "--json")
    assert code == 0
    built = place.report["backends"]["executorch"]
    again = report["backends"]["executorch"]
    assert again["weights_equal"] is True
    assert again["kl_mean"] == pytest.approx(built["kl_mean"], rel=1e-6)
    text = tmp_path / "mine.txt"
    text.write_text("A text of one's own, long enough to say something.", encoding="utf-8")
    code, report, _ = satchel("validate", place.out / "bundle" / "executorch", "--text", text, "--json")
    assert code == 0
    assert [one["name"] for one in report["backends"]["executorch"]["texts"]] == ["mine.txt"]
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
        other = write_directory(tmp_path / "other", TINY_CONFIG, sure_weights(9))
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
    shutil.copytree(place.out, tmp_path / "out")
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
    shutil.copytree(place.out, tmp_path / "out")
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
