"""The comparison's pure parts: spreads, and the page that is written from measured values."""

from typing import Any

import pytest

from peers import page
from peers.roster import PEERS
from peers.spread import Spread


def test_a_spread_is_median_least_and_greatest() -> None:
    spread = Spread.of([30.0, 10.0, 24.0, 20.0])
    assert spread == Spread(22.0, 10.0, 30.0)
    assert spread.text() == "22 (10..30)"


def test_a_spread_that_does_not_show_is_one_number() -> None:
    assert Spread.of([0.101, 0.104]).text(1) == "0.1"


def test_a_spread_needs_a_value() -> None:
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


@pytest.fixture
def results() -> dict[str, Any]:
    """Two rounds: the second is 10 % faster; ours prefills twice as fast as llama.cpp and decodes half as fast."""
    speed = [
        {
            "peer": peer.key,
            "threads": threads,
            "round": number,
            "load_s": 0.5,
            "prefill_tps": (600.0 if peer.ours else 300.0) * (1 + 0.1 * number),
            "decode_tps": (40.0 if peer.ours else 80.0) * (1 + 0.1 * number),
            "peak_mb": 300.0,
            "bare_mb": 28.0,
        }
        for number in (0, 1)
        for threads in (1, 2)
        for peer in PEERS
    ]
    judged = [peer.key for peer in PEERS if peer.measures_closeness]
    return {
        "model": "tiny",
        "recipe": "int4",
        "context_length": 2048,
        "tokens": {"prompt": 256, "answer": 64, "prompts": 3},
        "rounds": 2,
        "machine": {
            "processor": "Some Processor",
            "model": "family 6, model 1",
            "cores": 2,
            "memory_gb": 25,
            "virtual": True,
            "features": ["avx2"],
            "system": "Linux 6",
            "python": "3.11.7",
            "real_time": False,
        },
        "date": "2026-01-02",
        "seconds": 120.0,
        "load_before": [0.5, 1.0, 1.5],
        "load_after": [1.0, 1.0, 1.25],
        "bytes": {
            name: 50_000_000 if name != "gguf" else 100_000_000
            for name in ("pte", "tflite", "litertlm", "export_tflite", "export_litertlm", "gguf")
        },
        "about": {peer.key: "runtime 1.0" for peer in PEERS},
        "closeness": {key: {"kl_mean": 0.0234, "top1": 0.911, "positions": 2592} for key in judged},
        "speed": speed,
    }


def test_every_peer_has_a_row_in_every_table(results: dict[str, Any]) -> None:
    text = page.text(results)
    for peer in PEERS:
        assert len([line for line in text.splitlines() if line.startswith("| ") and peer.label in line]) == (
            4 if peer.ours else 3
        )


def test_rows_show_median_and_range(results: dict[str, Any]) -> None:
    row = next(line for line in page.text(results).splitlines() if "C++ host engine" in line and "630" in line)
    assert row.endswith("| 630 (600..660) | 42 (40..44) | 0.50 | 300 | 272 |")


def test_fidelity_that_was_not_measured_is_not_made_up(results: dict[str, Any]) -> None:
    table = page.text(results).partition("## Speed")[0]
    assert "| 0.0234 | 0.911 |" in table
    (row,) = [line for line in table.splitlines() if "LiteRT-LM engine" in line]
    assert row.endswith("| 50.0 | as its `.tflite` | as its `.tflite` |")


def verdict(results: dict[str, Any]) -> str:
    """The row of our C++ engine in the comparison with llama.cpp."""
    table = page.text(results).partition("## Against llama.cpp")[2].partition("##")[0]
    (row,) = [line for line in table.splitlines() if "C++ host engine" in line]
    return row.partition("engine | ")[2]


def test_the_page_says_where_llama_cpp_is_ahead(results: dict[str, Any]) -> None:
    assert verdict(results) == "0.50 | 2.00 | **0.50** | 2.00 | **0.50** |"


def test_a_file_larger_than_the_gguf_counts_for_llama_cpp(results: dict[str, Any]) -> None:
    results["bytes"]["pte"] = 120_000_000
    assert verdict(results).startswith("**1.20** | 2.00")


def test_the_comparison_is_with_the_faster_build_of_llama_cpp(results: dict[str, Any]) -> None:
    for record in results["speed"]:
        if record["peer"] == "llama-native":
            record["decode_tps"] = 1.0
    assert verdict(results) == "0.50 | 2.00 | **0.50** | 2.00 | **0.50** |"
