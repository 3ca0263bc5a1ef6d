"""The whole road on a tiny model, through the command line: build, and what goes wrong."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from satchel.bundle.folder import find_bundles, read_bundle, verify_bundle
from tiny_model import TINY_CONFIG, random_weights, write_directory
from trained_model import trained_weights
from workplace import BUILD, Workplace, digests, satchel

ARTIFACT_KEYS = {
    "artifact", "bytes", "bits_per_weight", "kl_mean", "kl_p99", "top1", "ppl_ratio", "tokens", "graph_max_abs",
    "weights_equal", "load_s", "prefill_tps", "decode_tps", "peak_rss_mb", "gates", "targets",
}  # fmt: skip
SYMMETRIC = Path(__file__).parents[1] / "data" / "int4-symmetric.toml"


def test_a_build_passes_and_reports_every_figure(place: Workplace) -> None:
    assert place.report["passed"] is True
    part = place.report["backends"]["executorch"]
    assert part.keys() >= ARTIFACT_KEYS
    assert part["weights_equal"] is True
    assert {"graph_relative", "kl_mean", "top1", "size_off_prediction"} <= part["gates"].keys()
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

    monkeypatch.setattr("satchel.compile.assets._compile_text", unwanted)
    monkeypatch.setattr("satchel.quantize.kept.quantize", unwanted)
    monkeypatch.setattr("satchel.validate.graph.prove", unwanted)
    monkeypatch.setattr("satchel.lower.executorch.lower_skeleton", unwanted)
    monkeypatch.setattr("satchel.package.android.sdk._build", unwanted)
    monkeypatch.setattr("satchel.validate.targets.host.measured_behaviour", unwanted)
    before = digests(place.out)
    assert satchel(*BUILD, place.model, "--context", 96, "--out", place.out)[0] == 0
    assert digests(place.out) == before
    code, _, said = satchel(*BUILD, place.model, "--context", 95, "--out", tmp_path)
    assert code == 1
    assert "this was done before" in said  # so the traps are where the work is


def test_a_failed_gate_packs_nothing_and_leaves_the_last_good_build(place: Workplace, tmp_path: Path) -> None:
    recipe = tmp_path / "strict.toml"
    recipe.write_text(SYMMETRIC.read_text().replace("kl_mean_max = 0.045", "kl_mean_max = 1e-9"))
    before = {part: digests(place.out / part) for part in ("bundle", "android")}
    code, report, said = satchel(*BUILD, place.model, "--context", 96, "--out", place.out, "--recipe", recipe, "--json")
    assert code == 3
    gate = report["backends"]["executorch"]["gates"]["kl_mean"]
    told = f"kl_mean is {gate['value']:.4g} ({gate['bound']:.4g} with 95% confidence) and must be at most 1e-09"
    assert told in said
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
    fine_tune = write_directory(tmp_path / "tuned", TINY_CONFIG, trained_weights(2), dtype="BF16")
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
        ("satchel.validate.targets.host.measured_behaviour", 96),
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
    other = write_directory(tmp_path / "tiny", TINY_CONFIG, trained_weights(3))
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
