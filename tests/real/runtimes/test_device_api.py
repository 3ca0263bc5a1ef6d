"""The default model through the Kotlin library, as an app uses it: conversation, interruption, options, self-test."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satchel.bundle.folder import Bundle, read_bundle, write_manifest
from satchel.cache import Cache
from satchel.runtimes.executorch import ExecuTorchEngine
from satchel.runtimes.jvm import HostEngine, build_host_engine
from satchel.tools import Tools

TEXT_TOKENS = 48


@pytest.fixture(scope="module")
def host(sdk_cache: Cache) -> HostEngine:
    return build_host_engine(sdk_cache, Tools())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, default_build: Path) -> Bundle:
    """The default model, whose golden.json has the log-probabilities that ExecuTorch's own Python runtime gives."""
    folder = tmp_path_factory.mktemp("device-api") / "bundle"
    bundle = read_bundle(Path(shutil.copytree(default_build / "bundle" / "executorch", folder)))
    golden = json.loads(bundle.file("golden").read_text(encoding="utf-8"))
    ids = [token for case in golden["encode"] for token in case["ids"]][:TEXT_TOKENS]
    engine = ExecuTorchEngine(bundle.file("program"), threads=1)
    logits = [engine.forward(np.array([token], dtype=np.int64), at).astype(np.float64) for at, token in enumerate(ids)]
    probabilities = [row[following] - np.logaddexp.reduce(row) for row, following in zip(logits, ids[1:], strict=False)]
    golden["teacher_forced"] = {"ids": ids, "log_probabilities": probabilities, "mean_tolerance": 0.2}
    bundle.file("golden").write_text(json.dumps(golden), encoding="utf-8")
    files = {artifact.role: artifact.file for artifact in bundle.manifest.artifacts}
    write_manifest(bundle.path, bundle.manifest, files)
    return read_bundle(bundle.path)


def run(host: HostEngine, main_class: str, *arguments: str | Path) -> dict[str, Any]:
    command = [
        str(Tools().java.executable),
        "-Xmx512m",
        f"-Dsatchel.host.dir={host.native}",
        "-cp",
        ":".join(map(str, host.class_path)),
        f"dev.satchel.host.{main_class}",
        *map(str, arguments),
    ]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def walk(host: HostEngine, bundle: Bundle) -> dict[str, Any]:
    return run(host, "Walkthrough", bundle.path)


def test_three_turns_read_only_what_is_new(walk: dict[str, Any]) -> None:
    first, second, third = walk["turns"]
    assert all(turn["text"].strip() for turn in walk["turns"])
    assert first["cached_tokens"] == 0
    for before, turn in ((first, second), (second, third)):
        assert turn["cached_tokens"] >= before["prompt_tokens"]
        assert turn["prompt_tokens"] > turn["cached_tokens"]
    assert walk["history"] == 8  # and a fourth turn
    assert 50e6 < third["peak_memory_bytes"] < 2e9


def test_a_restored_conversation_goes_on_where_it_was(walk: dict[str, Any]) -> None:
    assert walk["restored_history"]
    assert walk["restored"]["text"] == walk["fourth"]["text"]
    assert walk["restored"]["prompt_tokens"] == walk["fourth"]["prompt_tokens"] > walk["turns"][2]["prompt_tokens"]


def test_an_interrupted_answer_leaves_no_trace_and_a_stopped_one_is_a_turn(walk: dict[str, Any]) -> None:
    assert walk["text_after_leaving"]
    assert walk["stopped_reason"] == "CANCELLED"
    assert walk["stopped_tokens"] >= 5
    assert walk["stopped_history"] == 2


def test_stop_strings_and_seeds(walk: dict[str, Any]) -> None:
    stop = walk["stop_string"]
    assert stop["reason"] == "STOP"
    assert stop["string"] in stop["whole"]
    assert stop["text"] == stop["whole"][: stop["whole"].index(stop["string"])]
    first, again, other = walk["seeds"]
    assert first == again
    assert first != other


def test_the_self_test_passes(walk: dict[str, Any]) -> None:
    checks = {check["name"]: check for check in walk["self_test"]}
    assert list(checks) == ["files", "tokenizer", "prompt", "sampler", "model"]
    assert all(check["passed"] for check in checks.values()), checks
    assert walk["availability"] == "Available"


def test_one_changed_byte_fails_the_self_test_with_its_reason(host: HostEngine, bundle: Bundle, tmp_path: Path) -> None:
    damaged = tmp_path / "bundle"
    shutil.copytree(bundle.path, damaged)
    program = damaged / bundle.file("program").name
    with program.open("r+b") as file:
        file.seek(program.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    result = run(host, "SelfCheck", damaged)
    assert not result["passed"]
    (check,) = result["checks"]
    assert check["name"] == "load"
    assert program.name in check["detail"]
    assert "sha256" in check["detail"]


def test_interrupting_and_reloading_at_random_moments_harms_nothing(host: HostEngine, bundle: Bundle) -> None:
    """A short run; tests/verify has the long one, with the memory figures."""
    result = run(host, "Stress", bundle.path, "--cancels", "60", "--loads", "8")
    assert result["wrong_texts"] == 0
