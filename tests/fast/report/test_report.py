"""report.json's fixed structure, and merging of one backend's part."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from satchel.report.figures import Figures, Gate, TextFigures
from satchel.report.report import (
    BackendReport,
    FileRecord,
    ReportHeader,
    SameCodes,
    TensorRecord,
    merged,
    new_report,
    read_report,
    with_same_codes,
    write_report,
)

HEADER = ReportHeader("tiny", "int4", "directory tiny", "cd" * 32, None, 128)
FIGURES = Figures(
    tokens=2000,
    kl_mean=0.019,
    kl_p99=0.2,
    top1=0.92,
    ppl_ratio=1.01,
    load_s=0.4,
    prefill_tps=1000.0,
    decode_tps=180.0,
    peak_rss_mb=500.0,
    texts=(TextFigures("prose", 2000, 0.019, 0.2, 0.92, 1.01),),
    gates={"kl_mean": Gate(0.019, 0.035), "top1": Gate(0.92, 0.88, at_least=True)},
)
PART = BackendReport(
    artifact="model.pte",
    bytes=1_010_000,
    sha256="ab" * 32,
    predicted_bytes=1_000_000,
    bits_per_weight=7.2,
    graph={"max_abs": 3e-6, "relative": 2e-7},
    weights={"a": True, "b": True},
    figures=FIGURES,
    gates={"graph_relative": Gate(2e-7, 2e-5)},
    files=(FileRecord("program", "model.pte", 1_010_000, "ab" * 32),),
    tensors=(TensorRecord("model.layers.0.mlp.down_proj.weight", (8, 32), "Q4_1", "int4 + offset", "transcoded", 300),),
    tools={"executorch": "1.5.1"},
)
FIXED_KEYS = {
    "artifact", "bytes", "bits_per_weight", "kl_mean", "kl_p99", "top1", "ppl_ratio", "tokens", "graph_max_abs",
    "graph_relative", "weights_equal", "load_s", "prefill_tps", "decode_tps", "peak_rss_mb", "gates",
}  # fmt: skip


@pytest.mark.parametrize("figures", [FIGURES, None])
def test_scripts_find_every_fixed_key(figures: Figures | None) -> None:
    report = merged(new_report(HEADER), "executorch", replace(PART, figures=figures))
    assert report["passed"] is (True if figures else None)
    assert report["backends"]["executorch"].keys() >= FIXED_KEYS
    for gate in report["backends"]["executorch"]["gates"].values():
        assert gate.keys() >= {"value", "limit", "passed"}


@pytest.mark.parametrize(
    ("part", "verdict", "passed"),
    [
        (PART, "passed", True),
        (replace(PART, figures=None), "weights-only", None),
        (replace(PART, weights={"a": True, "b": False}), "failed", False),
        (replace(PART, gates={"graph_relative": Gate(4e-5, 2e-5)}), "failed", False),
        (replace(PART, figures=replace(FIGURES, gates={"top1": Gate(0.6, 0.88, at_least=True)})), "failed", False),
        (replace(PART, figures=replace(FIGURES, gates={"kl_mean": Gate(math.nan, 0.035)})), "failed", False),
    ],
)
def test_the_verdict_follows_from_proofs_and_gates(part: BackendReport, verdict: str, passed: bool) -> None:
    report = merged(new_report(HEADER), "executorch", part)
    assert report["backends"]["executorch"]["verdict"] == verdict
    assert report["passed"] is passed


def test_a_run_for_one_backend_leaves_the_others_alone() -> None:
    library = FileRecord("library", "tiny-int4-0.1.0.aar", 10, "cd" * 32)
    first = merged(new_report(HEADER), "litert", replace(PART, artifact="model.tflite"), [library])
    second = merged(first, "executorch", PART)
    assert second["backends"]["litert"] == first["backends"]["litert"]
    assert second["backends"].keys() == {"litert", "executorch"}
    assert second["libraries"][0]["file"] == "tiny-int4-0.1.0.aar"


def test_figures_of_another_target_stay_as_long_as_the_artifact_is_the_same() -> None:
    host = merged(new_report(HEADER), "executorch", PART)
    jvm = replace(PART, target="jvm", figures=replace(FIGURES, decode_tps=150.0))
    both = merged(host, "executorch", jvm)["backends"]["executorch"]
    assert both["targets"].keys() == {"host", "jvm"}
    assert both["decode_tps"] == 150.0  # the top-level figures are those of the target asked for
    other = merged(host, "executorch", replace(jvm, sha256="ef" * 32))["backends"]["executorch"]
    assert other["targets"].keys() == {"jvm"}


def test_it_is_read_back_only_for_the_same_model(tmp_path: Path) -> None:
    write_report(tmp_path, merged(new_report(HEADER), "executorch", PART))
    assert read_report(tmp_path, HEADER)["backends"].keys() == {"executorch"}
    for other in (replace(HEADER, model="other"), replace(HEADER, source_sha256="ef" * 32)):
        assert read_report(tmp_path, other)["backends"] == {}
    earlier = {**json.loads((tmp_path / "report.json").read_text()), "schema": 1}
    (tmp_path / "report.json").write_text(json.dumps(earlier))
    assert read_report(tmp_path, HEADER)["backends"] == {}  # it lacks what the page shows
    (tmp_path / "report.json").write_text("{")
    assert read_report(tmp_path, HEADER)["backends"] == {}


def test_not_a_number_is_null_in_json(tmp_path: Path) -> None:
    figures = replace(FIGURES, kl_mean=math.nan, gates={"kl_mean": Gate(math.nan, 0.035)})
    write_report(tmp_path, merged(new_report(HEADER), "executorch", replace(PART, figures=figures)))
    part = json.loads((tmp_path / "report.json").read_text())["backends"]["executorch"]
    assert part["kl_mean"] is None
    assert part["gates"]["kl_mean"] == {
        "value": None,
        "bound": None,
        "limit": 0.035,
        "passed": False,
        "at_least": False,
    }


def test_it_says_how_each_proof_went() -> None:
    graph = {"max_abs": 3e-6, "relative": 2e-7, "layers": 2}
    part = replace(PART, graph=graph, weights={"a": True, "b": False, "c": False})
    told = merged(new_report(HEADER), "executorch", part)["backends"]["executorch"]
    assert (told["graph_max_abs"], told["graph_relative"], told["graph"]) == (3e-6, 2e-7, graph)
    assert (told["weights_equal"], told["weights"]) == (False, {"tensors": 3, "different": ["b", "c"]})


def test_programs_that_hold_other_codes_fail_the_report() -> None:
    both = ("executorch", "litert")
    report = merged(merged(new_report(HEADER), both[0], PART), both[1], PART)
    same = with_same_codes(report, SameCodes(both, 211, ()))
    assert same["passed"] is True
    other = with_same_codes(report, SameCodes(both, 211, ("lm_head.weight",)))
    assert other["passed"] is False
    assert other["same_codes"]["different"] == ("lm_head.weight",)
