"""KL, top-1 and perplexity on logits worked out by hand; and what a gate does with them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.compile.golden import TeacherForced
from satchel.reference.engine import Engine
from satchel.report.figures import GRAPH_TOLERANCE, HISTOGRAM_EDGES, Figures, Gate, Histogram, Quarter, worst_share
from satchel.validate import behaviour
from satchel.validate.expected import Expected, log_softmax
from satchel.validate.fidelity import Fidelity, pooled, standard_error
from satchel.validate.measured import (
    Behaviour,
    behaviour_gates,
    golden_tolerance,
    measured_behaviour,
    quarters,
    read_behaviour,
    write_behaviour,
)
from satchel.validate.proofs import structural_gates
from satchel.validate.speed import measure_speed
from satchel.validate.texts import WHOLE_CONTEXT, Evaluation, Text

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


def expects(texts: Sequence[Text], whole: Text | None = None, table: NDArray[np.float32] = FLOAT) -> Expected:
    """What a reference expects whose logits depend on the last token: its "hidden states" are one-hot."""
    whole = whole or Text(WHOLE_CONTEXT, np.array([0], np.int64))
    evaluation = Evaluation(tuple(texts), whole, texts[0])
    rows = log_softmax(table)
    bits = {text.name: -sum(rows[a, b] for a, b in pairwise(text.ids)) / math.log(2) for text in evaluation.all}
    hidden = {text.name: np.eye(len(table), dtype=np.float32)[text.ids] for text in evaluation.all}
    return Expected(evaluation, hidden, bits, lambda states: states @ table)


def measure(engine: Engine, texts: Sequence[Text], table: NDArray[np.float32] = FLOAT) -> Mapping[str, Fidelity]:
    """Of the texts alone, without the one that fills the context."""
    found = dict(behaviour.measure(engine, expects(texts, table=table)))
    del found[WHOLE_CONTEXT]
    return found


def test_the_same_model_has_no_divergence() -> None:
    program = Program(FLOAT + 5)  # a constant added to all logits is the same distribution
    found = measure(program, [TEXT])["t"]
    assert found.kl_mean == pytest.approx(0, abs=1e-6)
    assert found.top1 == 1.0
    assert found.perplexity_ratio == pytest.approx(1)
    assert program.calls == [([0], 0), ([1], 1), ([2], 2), ([0], 0)]


def whole(length: int) -> Text:
    return Text(WHOLE_CONTEXT, np.arange(length, dtype=np.int64) % VOCABULARY)


def test_the_whole_context_is_read_as_a_prompt() -> None:
    """Chunks of full length, some tokens after each one by one, and the last eight one by one."""
    program = Program(FLOAT, chunk_shift=3.0)
    program.prefill_chunk = 64
    text = whole(2048)
    found = behaviour.measure(program, expects([TEXT], text))[WHOLE_CONTEXT]
    calls = program.calls[len(TEXT.ids) :]
    assert [i for tokens, _ in calls for i in tokens] == text.ids.tolist()  # every token once, in order
    assert [start for _, start in calls] == np.cumsum([0, *(len(tokens) for tokens, _ in calls[:-1])]).tolist()
    chunks = [len(tokens) for tokens, _ in calls if len(tokens) > 1]
    assert set(chunks[:-1]) == {64}
    assert [len(tokens) for tokens, _ in calls[-8:]] == [1] * 8
    assert len(found.kl) == len(calls)  # each call's logits count
    assert np.count_nonzero(found.kl > 0.1) == len(chunks)  # the ends of chunks are among them
    by_quarter = [np.count_nonzero((found.index >= 512 * q) & (found.index < 512 * (q + 1))) for q in range(4)]
    assert min(by_quarter) >= 60
    clusters = [found.cluster[found.index == start + len(tokens) - 1][0] for tokens, start in calls]
    assert clusters == sorted(clusters)
    assert len(set(clusters)) == len(chunks) + 1  # the last eight are one, too


@pytest.mark.parametrize(("length", "chunk"), [(32, 31), (40, 8), (256, 64), (9, 8), (8192, 64)])
def test_any_context_is_read_to_its_end(length: int, chunk: int) -> None:
    for program in (Program(FLOAT), Evaluated(FLOAT)):
        program.prefill_chunk = chunk
        found = behaviour.measure(program, expects([TEXT], whole(length)))[WHOLE_CONTEXT]
        read = sorted(start + i for tokens, start in program.calls[-length:] for i in range(len(tokens)))
        assert read[-8:] == list(range(length - 8, length))
        assert sorted(found.index)[-8:] == list(range(length - 8, length))
        assert max(len(tokens) for tokens, _ in program.calls) <= chunk
        assert all(np.isfinite(quarter.kl) for quarter in quarters(found, length))  # none without a position


def test_a_program_that_is_wrong_late_in_its_context_fails_its_gate() -> None:
    """Not by the mean over all texts, which hardly sees it."""
    right = FLOAT.copy()

    class Late(Program):
        prefill_chunk = 64

        def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
            row = super().forward(tokens, position)
            return row[::-1] if position + len(tokens) > 1536 else row

    long = Text("long", np.arange(60_000, dtype=np.int64) % VOCABULARY)
    found = behaviour.measure(Late(right), expects([Text("t", long.ids[:1500])], whole(2048)))
    limits = {"kl_mean": 0.1}
    by_quarter = quarters(found[WHOLE_CONTEXT], 2048)
    everything = pooled(found)
    gates = behaviour_gates(figures_of(everything.kl_mean, everything.top1, by_quarter), limits)
    assert [quarter.kl < 0.01 for quarter in by_quarter] == [True, True, True, False]
    assert gates["kl_mean"].passed
    assert not gates["kl_worst_quarter"].passed


def test_a_text_is_read_by_turns() -> None:
    """Its first tokens one by one, then a chunk, and so on: every way of reading follows the other."""
    program = Program(FLOAT)
    program.prefill_chunk = 64
    text = Text("t", np.arange(150, dtype=np.int64) % VOCABULARY)
    found = measure(program, [text])["t"]
    lengths = [len(tokens) for tokens, _ in program.calls[:-1]]  # the last call is of the other text
    assert lengths == [1] * 32 + [32] + [1] * 32 + [32] + [1] * 22
    assert [i for tokens, _ in program.calls[:-1] for i in tokens] == text.ids.tolist()
    assert found.index.tolist() == [*range(32), *range(63, 96), *range(127, 150)]
    assert found.cluster.tolist() == [0] * 32 + [1] * 33 + [2] * 23


def test_an_evaluator_is_asked_for_chunks_and_for_the_last_tokens_one_by_one() -> None:
    """Every position counts once, as on a runtime."""
    text = Text("t", np.arange(27, dtype=np.int64) % VOCABULARY)
    program = Evaluated(FLOAT, chunk_shift=1.0)
    found = measure(program, [text])["t"]
    chunks = [(text.ids[start : min(start + 8, 23)].tolist(), start) for start in (0, 8, 16)]
    assert program.calls[:7] == chunks + [([position % VOCABULARY], position) for position in range(23, 27)]
    assert found.index.tolist() == list(range(27))
    assert np.flatnonzero(found.kl > 1e-6).tolist() == [7, 15, 22]  # only the ends of chunks differ
    assert found.cluster.tolist() == [0] * 27


def test_an_evaluators_speed_is_not_measured() -> None:
    engine, speed = measure_speed(lambda: Evaluated(FLOAT), lambda: 0)
    assert vars(speed) == dict.fromkeys(vars(speed))
    assert isinstance(engine, Evaluated) and not engine.calls


def test_divergence_by_hand() -> None:
    table = FLOAT.copy()
    table[0] = np.log([0.25, 0.5, 0.25])
    found = measure(Program(table), [TEXT])["t"]
    expected = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.5)
    assert found.kl == pytest.approx([expected, 0, 0], abs=1e-6)  # only position 0 differs
    assert found.agree.tolist() == [False, True, True]
    # negative log-likelihoods of the following tokens: 1 after 0, 2 after 1
    assert found.reference_nll == pytest.approx(-np.log([0.25, 0.2]), abs=1e-6)
    assert found.program_nll == pytest.approx(-np.log([0.5, 0.2]), abs=1e-6)
    assert found.perplexity_ratio == pytest.approx(0.5 ** (1 / 2), abs=1e-6)


def test_the_worst_positions_are_kept_with_both_models_words() -> None:
    table = FLOAT.copy()
    table[0] = np.log([0.25, 0.5, 0.25])
    ids = np.array([0, 1, 2, 0], np.int64)
    worst = pooled(measure(Program(table), [Text("a", ids), Text("b", ids[:2])])).worst
    assert [(one.text, one.index) for one in worst[:3]] == [("a", 0), ("a", 3), ("b", 0)]
    assert [one.kl for one in worst] == sorted((one.kl for one in worst), reverse=True)
    assert not any(one.in_chunk for one in worst)
    assert worst[0].original == ((0, pytest.approx(0.5)), (1, pytest.approx(0.25)), (2, pytest.approx(0.25)))
    assert worst[0].packaged[0] == (1, pytest.approx(0.5))
    prompt = behaviour.measure(Program(FLOAT, chunk_shift=3.0), expects([TEXT], whole(20)))[WHOLE_CONTEXT]
    assert all(one.in_chunk == (one.kl > 0.1) for one in prompt.worst)


def test_only_ten_of_the_worst_positions_are_kept() -> None:
    """The program is more wrong about every further token."""
    size = 14
    table = np.zeros((size, size), np.float32)
    wrong = table + np.diag(np.arange(size, dtype=np.float32))

    texts = [Text("up", np.arange(size)), Text("down", np.arange(size)[::-1])]
    worst = pooled(measure(Program(wrong), texts, table)).worst
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
    found = measure(Program(FLOAT), [Text("a", ids), Text("b", ids)])
    assert len(set(found["a"].cluster)) == 2
    assert len(set(pooled(found).cluster)) == 4
    assert pooled(found).kl_standard_error == pytest.approx(0, abs=1e-9)


def test_bits_per_byte_are_the_references_own() -> None:
    """By hand, over tokens of 3 and 1 bytes; what the program says has no part in it."""
    text = Text("t", np.array([0, 1, 2], np.int64), bytes=4)
    expected = -(math.log2(0.25) + math.log2(0.2)) / 4
    found = measure(Program(np.zeros((3, 3), np.float32)), [text])
    assert found["t"].reference_bits_per_byte == pytest.approx(expected)
    twice = measure(Program(FLOAT), [text, Text("u", text.ids, bytes=12)])
    assert pooled(twice).reference_bits_per_byte == pytest.approx(2 * expected * 4 / 16)
    assert measure(Program(FLOAT), [TEXT])["t"].reference_bits_per_byte is None


def test_the_share_of_the_worst_hundredth() -> None:
    assert worst_share(np.array([1.0] * 198 + [99.0, 99.0])) == pytest.approx(198 / 396)
    assert worst_share(np.array([3.0, 1.0])) == 0.75  # at least one position
    assert worst_share(np.zeros(5)) is None


def test_a_kept_measurement_is_read_back_as_it_was(tmp_path: Path) -> None:
    found = measure(Program(FLOAT, chunk_shift=3.0), [TEXT])["t"]
    figures = Figures(5, 0.1, 0.2, 0.9, 1.0, 0.1, 1.0, 1.0, 1.0, 0.01, 0.02, 0.9)
    quarter = (Quarter(0.1, 0.01), Quarter(0.2, None))
    figures = replace(figures, histogram=Histogram.of(found.kl), kl_by_quarter=quarter, kl_at_end=(0.5, 0.25))
    kept = Behaviour(figures, TeacherForced([1, 2], np.array([-0.5]), 0.1), found.worst)
    write_behaviour(kept, tmp_path)
    assert read_behaviour(tmp_path, {}) == kept


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


def figures_of(kl: float, top1: float, by_quarter: tuple[Quarter, ...], **errors: float) -> Figures:
    return Figures(5, kl, 0.2, top1, 1.0, 0.1, 1.0, 1.0, 1.0, kl_by_quarter=by_quarter, **errors)  # type: ignore[arg-type]


def test_not_a_number_fails_its_gates() -> None:
    wrong = Program(np.full((3, 3), np.nan, np.float32))
    found = measured_behaviour(
        expects([TEXT], whole(8)), lambda: wrong, lambda: 0, {"kl_mean": 0.035, "top1": 0.88}, lambda *_: None
    )
    assert not found.figures.gates["kl_mean"].passed
    assert not found.figures.gates["kl_worst_quarter"].passed


def test_gates_look_at_the_right_side() -> None:
    gates = behaviour_gates(figures_of(0.04, 0.9, (Quarter(0.01, None),)), {"kl_mean": 0.035, "top1": 0.88})
    assert (gates["kl_mean"].passed, gates["top1"].passed) == (False, True)
    assert behaviour_gates(figures_of(0.0, 1.0, ()), {}) == {}


def test_gates_compare_the_bound() -> None:
    """95 % on one side are 1.645 standard errors."""
    limits = {"kl_mean": 0.035, "top1": 0.88}
    errors = {"kl_standard_error": 0.002, "top1_standard_error": 0.01}

    def gates(kl: float, top1: float, quarter: float) -> dict[str, bool]:
        figures = figures_of(kl, top1, (Quarter(0.01, 0.1), Quarter(quarter, 0.01)), **errors)
        return {name: gate.passed for name, gate in behaviour_gates(figures, limits).items()}

    assert gates(0.0317, 0.8965, 0.0514) == {"kl_mean": True, "top1": True, "kl_worst_quarter": True}
    assert gates(0.0318, 0.8963, 0.0515) == {"kl_mean": False, "top1": False, "kl_worst_quarter": False}
    gate = Gate(0.0318, 0.035, error=0.002)
    assert gate.told == "0.0318 (0.03509 with 95% confidence) and must be at most 0.035"
    assert gate.to_dict()["bound"] == pytest.approx(0.03509, abs=1e-6)


def test_a_gate_without_an_error_compares_the_figure() -> None:
    assert Gate(0.03, 0.03).passed
    assert Gate(0.03, 0.03).bound == 0.03
    assert Gate(0.5, 0.4).told == "0.5 and must be at most 0.4"


@pytest.mark.parametrize(
    ("size", "passed"), [(100_000_000, True), (103_000_000, True), (103_100_000, False), (96_900_000, False)]
)
def test_a_size_more_than_three_percent_off_fails(size: int, passed: bool) -> None:
    gate = structural_gates(0.0, size, 100_000_000)["size_off_prediction"]
    assert gate.passed is passed
    assert gate == Gate(abs(size - 100_000_000) / 100_000_000, 0.03)


def test_a_graph_off_by_more_than_the_tolerance_fails() -> None:
    assert structural_gates(GRAPH_TOLERANCE, 1, 1)["graph_relative"].passed
    assert not structural_gates(1.1 * GRAPH_TOLERANCE, 1, 1)["graph_relative"].passed
    assert not structural_gates(math.nan, 1, 1)["graph_relative"].passed
