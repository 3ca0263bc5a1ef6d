"""KL, top-1 and perplexity on logits worked out by hand; and what a gate does with them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.compile.golden import TeacherForced
from satchel.report.figures import HISTOGRAM_EDGES, Figures, Gate, Histogram, worst_share
from satchel.validate.behaviour import Text, measure, pooled, standard_error
from satchel.validate.measured import Behaviour, behaviour_gates, golden_tolerance, read_behaviour, write_behaviour
from satchel.validate.proofs import structural_gates
from satchel.validate.speed import measure_speed

VOCABULARY = 3


class Program:
    """An engine whose logits depend on the last token and, for a chunk of several tokens, on `chunk_shift`."""

    context_length, prefill_chunk, vocab_size = 8, 2, VOCABULARY

    def __init__(self, table: NDArray[np.float32], chunk_shift: float = 0.0) -> None:
        self.table = table
        self.chunk_shift = chunk_shift
        self.calls: list[tuple[list[int], int]] = []

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        self.calls.append((tokens.tolist(), position))
        row = self.table[tokens[-1]].copy()
        row[0] += self.chunk_shift * (len(tokens) > 1)
        return row

    def close(self) -> None: ...


class Evaluated(Program):
    """One that gives the logits of all positions of a chunk, with `chunk_shift` at its end."""

    prefill_chunk = 8
    context_length = 64

    def forward_each(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        self.calls.append((tokens.tolist(), position))
        rows = self.table[tokens].copy()
        rows[-1, 0] += self.chunk_shift
        return rows


FLOAT = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]], np.float32))
TEXT = Text("t", np.array([0, 1, 2], np.int64))


def reference(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    return FLOAT[ids]


def test_the_same_model_has_no_divergence() -> None:
    program = Program(FLOAT + 5)  # a constant added to all logits is the same distribution
    found = measure(program, reference, [TEXT])["t"]
    assert found.kl_mean == pytest.approx(0, abs=1e-6)
    assert found.top1 == 1.0
    assert found.perplexity_ratio == pytest.approx(1)
    assert program.calls == [([0], 0), ([1], 1), ([2], 2), ([0, 1], 0), ([2], 2)]


def test_an_evaluator_is_asked_for_chunks_and_for_the_last_tokens_one_by_one() -> None:
    """Every position counts as often as on a runtime: once, and once more at the end of a chunk."""
    text = Text("t", np.arange(27, dtype=np.int64) % VOCABULARY)
    program = Evaluated(FLOAT, chunk_shift=1.0)
    found = measure(program, reference, [text])["t"]
    chunks = [(text.ids[start : start + 8].tolist(), start) for start in (0, 8, 16, 24)]
    assert program.calls == chunks + [([position % VOCABULARY], position) for position in range(11, 27)]
    twice = measure(Program(FLOAT), reference, [Text("t", text.ids[:8])])["t"]
    assert len(found.kl) == 27 + 4
    assert len(twice.kl) == 8 + 4
    # Only the ends of chunks differ: as such, and position 7 once more, since it is not among the last 16.
    assert np.count_nonzero(found.kl > 1e-6) == 5


def test_an_evaluators_speed_is_not_measured() -> None:
    engine, speed = measure_speed(lambda: Evaluated(FLOAT), lambda: 0)
    assert vars(speed) == dict.fromkeys(vars(speed))
    assert isinstance(engine, Evaluated) and not engine.calls


def test_divergence_by_hand() -> None:
    table = FLOAT.copy()
    table[0] = np.log([0.25, 0.5, 0.25])
    found = measure(Program(table), reference, [TEXT])["t"]
    # positions: 0, 1, 2 one by one, then 1 and 2 as ends of chunks; only position 0 differs
    expected = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.5)
    assert found.kl == pytest.approx([expected, 0, 0, 0, 0], abs=1e-6)
    assert found.agree.tolist() == [False, True, True, True, True]
    # negative log-likelihoods of the following tokens: 1 after 0, 2 after 1 (twice)
    assert found.reference_nll == pytest.approx(-np.log([0.25, 0.2, 0.2]), abs=1e-6)
    assert found.program_nll == pytest.approx(-np.log([0.5, 0.2, 0.2]), abs=1e-6)
    assert found.perplexity_ratio == pytest.approx(0.5 ** (1 / 3), abs=1e-6)


def test_a_prefill_that_differs_from_decode_shows() -> None:
    found = measure(Program(FLOAT, chunk_shift=3.0), reference, [TEXT])["t"]
    assert found.kl[:3] == pytest.approx([0, 0, 0], abs=1e-6)
    assert found.kl[3] > 0.5
    assert pooled({"t": found}).kl_mean == pytest.approx(found.kl.mean())


def test_the_worst_positions_are_kept_with_both_models_words() -> None:
    table = FLOAT.copy()
    table[0] = np.log([0.25, 0.5, 0.25])
    ids = np.array([0, 1, 2, 0], np.int64)
    found = measure(Program(table, chunk_shift=3.0), reference, [Text("a", ids), Text("b", ids[:2])])
    worst = pooled(found).worst
    # read by itself, position 0 has KL 0.17 and position 3 too; at the end of a chunk, 1 and 3 are worse
    assert [(one.text, one.index, one.in_chunk) for one in worst] == [
        ("a", 1, True),
        ("b", 1, True),
        ("a", 3, True),
        ("a", 0, False),
        ("b", 0, False),
        ("a", 2, False),
    ]
    assert [one.kl for one in worst] == sorted((one.kl for one in worst), reverse=True)
    assert worst[3].original == ((0, pytest.approx(0.5)), (1, pytest.approx(0.25)), (2, pytest.approx(0.25)))
    assert worst[3].packaged[0] == (1, pytest.approx(0.5))


def test_only_ten_of_the_worst_positions_are_kept() -> None:
    """The program is more wrong about every further token."""
    size = 14
    table = np.zeros((size, size), np.float32)
    wrong = table + np.diag(np.arange(size, dtype=np.float32))

    def flat(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return table[ids]

    texts = [Text("up", np.arange(size)), Text("down", np.arange(size)[::-1])]
    worst = pooled(measure(Program(wrong), flat, texts)).worst
    assert [one.kl for one in worst] == sorted((one.kl for one in worst), reverse=True)
    assert {one.text: [p.index for p in worst if p.text == one.text] for one in worst} == {
        "up": [13, 12, 11, 10, 9],
        "down": [0, 1, 2, 3, 4],
    }


def test_the_histogram_counts_every_number_once() -> None:
    kl = np.array([-1e-9, 0.0, 1e-5, 0.0011, 0.02, 0.02, 9.0, 1e3, np.inf, np.nan])
    found = Histogram.of(kl)
    assert sum(found.counts) == 9
    assert (found.counts[0], found.counts[1], found.counts[-1]) == (2, 1, 2)
    bin_of_002 = next(index for index, edge in enumerate(HISTOGRAM_EDGES) if edge > 0.02)
    assert found.counts[bin_of_002] == 2


def test_the_standard_error_is_that_of_independent_values_where_each_is_a_cluster_of_its_own() -> None:
    values = np.random.default_rng(2).normal(0, 1, 400)
    expected = values.std(ddof=1) / math.sqrt(len(values))
    assert standard_error(values, np.arange(400)) == pytest.approx(expected)


def test_the_standard_error_knows_that_neighbours_depend_on_one_another() -> None:
    """Against what it estimates: how far the means of many samples of the same kind lie apart. Taken as independent,
    the values would seem to say three times as much as they do."""
    random = np.random.default_rng(3)
    cluster = np.repeat(np.arange(40), [*[32] * 39, 7])

    def sample() -> NDArray[np.float64]:
        return random.normal(0, 1, 40)[cluster] + random.normal(0, 1, len(cluster))

    means = [sample().mean() for _ in range(2000)]
    estimates = [standard_error(sample(), cluster) for _ in range(200)]
    assert np.mean(estimates) == pytest.approx(np.std(means), rel=0.05)  # type: ignore[arg-type]
    assert standard_error(sample(), np.arange(len(cluster))) < 0.4 * np.std(means)  # type: ignore[operator]


def test_one_block_says_nothing_about_its_error() -> None:
    assert standard_error(np.array([1.0, 2.0]), np.array([0, 0])) is None


def test_blocks_are_of_one_text_each() -> None:
    ids = np.zeros(40, np.int64)
    found = measure(Program(FLOAT), reference, [Text("a", ids), Text("b", ids)])
    assert len(set(found["a"].cluster)) == 2
    assert len(set(pooled(found).cluster)) == 4
    assert pooled(found).kl_standard_error == pytest.approx(0, abs=1e-9)


def test_bits_per_byte_are_the_references_own() -> None:
    """By hand, over tokens of 3 and 1 bytes; what the program says has no part in it."""
    text = Text("t", np.array([0, 1, 2], np.int64), bytes=4)
    expected = -(math.log2(0.25) + math.log2(0.2)) / 4
    found = measure(Program(np.zeros((3, 3), np.float32)), reference, [text])
    assert found["t"].reference_bits_per_byte == pytest.approx(expected)
    twice = measure(Program(FLOAT), reference, [text, Text("u", text.ids, bytes=12)])
    assert pooled(twice).reference_bits_per_byte == pytest.approx(2 * expected * 4 / 16)
    assert measure(Program(FLOAT), reference, [TEXT])["t"].reference_bits_per_byte is None


def test_the_share_of_the_worst_hundredth() -> None:
    assert worst_share(np.array([1.0] * 198 + [99.0, 99.0])) == pytest.approx(198 / 396)
    assert worst_share(np.array([3.0, 1.0])) == 0.75  # at least one position
    assert worst_share(np.zeros(5)) is None


def test_a_kept_measurement_is_read_back_as_it_was(tmp_path: Path) -> None:
    found = measure(Program(FLOAT, chunk_shift=3.0), reference, [TEXT])["t"]
    figures = Figures(5, 0.1, 0.2, 0.9, 1.0, 0.1, 1.0, 1.0, 1.0, 0.01, 0.02, 0.9, 0.5, "a machine")
    figures = replace(figures, histogram=Histogram.of(found.kl))
    behaviour = Behaviour(figures, TeacherForced([1, 2], np.array([-0.5]), 0.1), found.worst)
    write_behaviour(behaviour, tmp_path)
    assert read_behaviour(tmp_path, {}) == behaviour


def test_the_golden_tolerance_lets_right_devices_pass_and_wrong_ones_fail() -> None:
    """63 tokens at the gate's limit of KL: distributions of 50 tokens whose logits int8 rounding moved by so much."""
    random = np.random.default_rng(8)
    tolerance = golden_tolerance(0.035, 63)
    assert tolerance == 0.1683
    differences = []
    for _ in range(500):
        logits = random.normal(0, 2, (63, 50))
        moved = logits + random.normal(0, 0.3, logits.shape)
        original, program = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (logits, moved))
        tokens = [random.choice(50, p=np.exp(row)) for row in original]
        differences.append((original - program)[np.arange(63), tokens].mean())
        kl = (np.exp(original) * (original - program)).sum(axis=1).mean()
        assert 0.02 < kl < 0.07  # about the limit
    assert np.abs(differences).max() < tolerance
    assert golden_tolerance(0.0, 63) == 0.01


def test_not_a_number_fails_its_gate() -> None:
    found = measure(Program(np.full((3, 3), np.nan, np.float32)), reference, [TEXT])["t"]
    gates = behaviour_gates(found.kl_mean, found.top1, {"kl_mean": 0.035, "top1": 0.88})
    assert not gates["kl_mean"].passed


def test_gates_look_at_the_right_side() -> None:
    gates = behaviour_gates(0.04, 0.9, {"kl_mean": 0.035, "top1": 0.88})
    assert (gates["kl_mean"].passed, gates["top1"].passed) == (False, True)
    assert behaviour_gates(0.0, 1.0, {}) == {}


@pytest.mark.parametrize(
    ("size", "passed"), [(100_000_000, True), (103_000_000, True), (103_100_000, False), (96_900_000, False)]
)
def test_a_size_more_than_three_percent_off_fails(size: int, passed: bool) -> None:
    gate = structural_gates(0.0, size, 100_000_000)["size_off_prediction"]
    assert gate.passed is passed
    assert gate == Gate(abs(size - 100_000_000) / 100_000_000, 0.03)


def test_a_graph_off_by_more_than_the_tolerance_fails() -> None:
    assert structural_gates(1e-4, 1, 1)["graph_max_abs"].passed
    assert not structural_gates(1.1e-4, 1, 1)["graph_max_abs"].passed
