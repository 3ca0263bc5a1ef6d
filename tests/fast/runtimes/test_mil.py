"""The ML Program evaluator: rounding, states, what can be read, what is refused. Single operations: tests/real."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satchel.errors import BundleError, CorruptModelError, ProgramInputError, UnknownOperationError
from satchel.runtimes.coreml import CoreMlEngine
from satchel.runtimes.mil import threads
from satchel.runtimes.mil.constant_values import CONSTANT_OPERATIONS
from satchel.runtimes.mil.evaluator import OPERATIONS, STATE_OPERATIONS, Evaluator
from tiny_package import Op, in_blob, op, write_package

X = ("float16", (1, 4))


def evaluator(path: Path, operations: list[Op], outputs: list[str], exact: bool = False, **options: Any) -> Evaluator:
    return Evaluator(write_package(path / "model.mlpackage", operations, outputs, **options), exact=exact)


def test_what_is_too_large_for_float16_becomes_infinity(tmp_path: Path) -> None:
    operations = [
        op("mul", ("square", "float16", (1, 4)), x="x", y="x"),
        op("reduce_mean", ("mean", "float16", (1, 1)), x="square", axes=np.array([-1]), keep_dims=np.bool_(True)),
        op("rsqrt", ("factor", "float16", (1, 1)), x="mean", epsilon=np.float16(1e-5)),
        op("mul", ("y", "float16", (1, 4)), x="x", y="factor"),
    ]
    program = evaluator(tmp_path, operations, ["y", "square"], inputs={"x": X})
    x = np.array([[300, 255.9, -1, 0]], np.float16)
    found = program.run({"x": x})
    assert found["square"].dtype == np.float16
    assert found["square"].tolist() == [[np.inf, 65472, 1, 0]]
    assert found["y"].tolist() == [[0, 0, 0, 0]]  # a plain norm of a large value: the trap that a gate must see
    exact = Evaluator(tmp_path / "model.mlpackage", exact=True).run({"x": x})
    assert exact["square"].dtype == np.float32
    assert exact["square"][0, 0] == 90000
    assert exact["y"][0, 0] == pytest.approx(300 / np.sqrt((90000 + 255.875**2 + 1) / 4), rel=1e-6)


def test_every_result_is_rounded_to_its_declared_type(tmp_path: Path) -> None:
    """2048 + 1 + 1 is 2048 in float16, if each sum is rounded, and 2050 if only the last one is."""
    one = np.float16(1)
    half = [op("add", ("a", *X), x="x", y=one), op("add", ("b", *X), x="a", y=one)]
    single = [op("add", ("a", "float32", (1, 4)), x="x", y=one), op("add", ("b", *X), x="a", y=one)]
    x = np.full((1, 4), 2048, np.float16)
    assert evaluator(tmp_path / "half", half, ["b"], inputs={"x": X}).run({"x": x})["b"][0, 0] == 2048
    assert evaluator(tmp_path / "single", single, ["b"], inputs={"x": X}).run({"x": x})["b"][0, 0] == 2050


def test_whole_numbers_wrap_around_in_their_declared_type(tmp_path: Path) -> None:
    operations = [
        op("cast", ("short", "uint16", (3,)), x="x", dtype="=uint16"),
        op("cast", ("y", "int32", (3,)), x="short", dtype="=int32"),
    ]
    program = evaluator(tmp_path, operations, ["y"], inputs={"x": ("int32", (3,))})
    assert program.run({"x": np.array([-1, 65536, 5], np.int32)})["y"].tolist() == [65535, 0, 5]


# --- states -------------------------------------------------------------------------------------------------------

SLICE = {"begin": np.array([1, 0]), "end": np.array([2, 4])}


def cached(path: Path, *more: Op, outputs: tuple[str, ...] = ("seen",)) -> Evaluator:
    """Puts x into row 1 of the cache, and reads it. `more` comes last."""
    operations = [
        op("read_state", ("old", "float16", (3, 4)), input="cache"),
        op("slice_update", ("new", "float16", (3, 4)), x="old", update="x", **SLICE),
        op("write_state", [], input="cache", data="new"),
        op("read_state", ("again", "float16", (3, 4)), input="cache"),
        op("add", ("seen", "float16", (3, 4)), x="again", y=np.float16(1)),
        *more,
    ]
    return evaluator(path, operations, list(outputs), inputs={"x": X}, states={"cache": (3, 4)})


def test_a_state_is_kept_from_call_to_call_and_starts_with_zeros(tmp_path: Path) -> None:
    program = cached(tmp_path)
    state = program.make_state()
    buffer = state["cache"]
    assert program.run({"x": np.full((1, 4), 5, np.float16)}, state)["seen"].tolist() == [[1] * 4, [6] * 4, [1] * 4]
    assert state["cache"].tolist() == [[0] * 4, [5] * 4, [0] * 4]
    assert state["cache"] is buffer  # updated where it lies
    assert program.make_state()["cache"].sum() == 0
    state["cache"][2] = 7
    assert program.run({"x": np.zeros((1, 4), np.float16)}, state)["seen"].tolist() == [[1] * 4, [1] * 4, [8] * 4]


@pytest.mark.parametrize(("more", "outputs"), [
    ([op("sub", ("late", "float16", (3, 4)), x="again", y="old")], ("late",)),
    ([op("reshape", ("view", "float16", (12,)), x="old", shape=np.array([12]))], ("view", "seen")),
    ([], ("old", "seen")),
])  # fmt: skip
def test_old_values_of_a_state_that_are_read_later_stay_old(
    more: list[Op], outputs: tuple[str, ...], tmp_path: Path
) -> None:
    program = cached(tmp_path, *more, outputs=outputs)
    state = program.make_state()
    program.run({"x": np.full((1, 4), 5, np.float16)}, state)
    first = program.run({"x": np.full((1, 4), 7, np.float16)}, state)[outputs[0]]
    assert first.reshape(3, 4)[1].tolist() == [2.0 if outputs == ("late",) else 5.0] * 4
    assert state["cache"][1].tolist() == [7] * 4


def test_a_view_of_a_state_taken_before_an_update_stays_old(tmp_path: Path) -> None:
    operations = [
        op("read_state", ("old", "float16", (3, 4)), input="cache"),
        op("slice_by_index", ("row", *X), x="old", **SLICE),
        op("read_state", ("fresh", "float16", (3, 4)), input="cache"),
        op("slice_update", ("new", "float16", (3, 4)), x="fresh", update="x", **SLICE),
        op("write_state", [], input="cache", data="new"),
        op("add", ("y", *X), x="row", y="x"),
    ]
    program = evaluator(tmp_path, operations, ["y"], inputs={"x": X}, states={"cache": (3, 4)})
    assert program.run({"x": np.full((1, 4), 5, np.float16)}, program.make_state())["y"].tolist() == [[5] * 4]


def test_what_is_written_to_two_states_is_not_shared(tmp_path: Path) -> None:
    operations = [
        op("write_state", [], input="a", data="x"),
        op("read_state", ("from_a", *X), input="a"),
        op("write_state", [], input="b", data="from_a"),
    ]
    program = evaluator(tmp_path, operations, ["from_a"], inputs={"x": X}, states={"a": (1, 4), "b": (1, 4)})
    state = program.make_state()
    program.run({"x": np.ones((1, 4), np.float16)}, state)
    state["a"][:] = 3
    assert state["b"].tolist() == [[1] * 4]


# --- reading and going on ------------------------------------------------------------------------------------------


def head(path: Path) -> Path:
    """Doubles each row of x [1, n, 4], keeps the last one, multiplies it with a matrix."""
    weight = np.arange(12, dtype=np.float16).reshape(3, 4)
    operations = [
        op("const", ("weight", "float16", (3, 4)), val=in_blob(weight)),
        op("mul", ("all", "float16", (1, None, 4)), x="x", y=np.float16(2)),
        op(
            "slice_by_index",
            ("last", "float16", (1, 1, 4)),
            x="all",
            begin=np.array([0, -1, 0]),
            end=np.array([1, 0, 4]),
            end_mask=np.array([True, True, True]),
        ),
        op("linear", ("y", "float16", (1, 1, 3)), x="last", weight="weight"),
    ]
    ranges = {"x": ((1, 1), (1, 5), (4, 4))}
    return write_package(path, operations, ["y"], inputs={"x": ("float16", (1, 1, 4))}, ranges=ranges)


def test_values_in_between_are_read_and_gone_on_from(tmp_path: Path) -> None:
    program = Evaluator(head(tmp_path / "head.mlpackage"))
    x = np.arange(8, dtype=np.float16).reshape(1, 2, 4)
    found = program.run({"x": x}, read=["all"])
    assert found["all"].tolist() == (2 * x).tolist()
    every = program.resume({"last": found["all"]}, ["y"])["y"]
    assert every.shape == (1, 2, 3)
    assert every[:, -1:].tolist() == found["y"].tolist()
    with pytest.raises(ProgramInputError, match="no value hidden"):
        program.run({"x": x}, read=["hidden"])
    with pytest.raises(CorruptModelError, match="without x"):
        program.resume({"weight": x}, ["y"])


@pytest.mark.parametrize(("inputs", "said"), [
    ({}, "input x is missing"),
    ({"x": np.zeros((1, 2, 4), np.float16), "z": np.zeros(1)}, "takes no input z. It takes x"),
    ({"x": np.zeros((1, 6, 4), np.float16)}, r"shape \(1, 6, 4\); the program takes 1..1x1..5x4..4"),
    ({"x": np.zeros((1, 2, 4), np.float32)}, "float32; the program takes float16"),
])  # fmt: skip
def test_a_wrong_input_is_refused_by_name(inputs: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ProgramInputError, match=said):
        Evaluator(head(tmp_path / "head.mlpackage")).run(inputs)


def test_a_wrong_state_is_refused_by_name(tmp_path: Path) -> None:
    program, x = cached(tmp_path), {"x": np.zeros((1, 4), np.float16)}
    with pytest.raises(ProgramInputError, match="keeps state cache"):
        program.run(x)
    with pytest.raises(ProgramInputError, match=r"State cache is float32 \(2, 4\)"):
        program.run(x, {"cache": np.zeros((2, 4), np.float32)})


# --- what is known and what is refused -------------------------------------------------------------------------------


def test_the_document_lists_the_operations_that_are_known() -> None:
    text = (Path(__file__).parents[3] / "docs" / "coreml-evaluator.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.partition("## Operations")[2].splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted({*OPERATIONS, *STATE_OPERATIONS, *CONSTANT_OPERATIONS})


def test_an_unknown_operation_is_refused_by_name(tmp_path: Path) -> None:
    operations = [op("fused_wonder", ("y", *X), x="x")]
    with pytest.raises(UnknownOperationError, match=r"operation fused_wonder \(op_y\) is not one"):
        evaluator(tmp_path, operations, ["y"], inputs={"x": X})


@pytest.mark.parametrize(("operation", "said"), [
    (op("add", ("y", "float16", (2, 4)), x="x", y="x"), r"y has shape \(1, 4\)"),
    (op("gather", ("y", "float16", (1, 1)), x="x", indices=np.array([4]), axis=np.int32(1)), "4 of 4"),
    (op("reshape", ("y", "float16", (1, 5)), x="x", shape=np.array([1, 5])), "reshape can't give y"),
    (op("add", ("y", *X), x="x"), "'y'"),
])  # fmt: skip
def test_an_operation_that_can_not_be_done_is_named(operation: Op, said: str, tmp_path: Path) -> None:
    program = evaluator(tmp_path, [operation], ["y"], inputs={"x": X})
    with pytest.raises(CorruptModelError, match=said):
        program.run({"x": np.zeros((1, 4), np.float16)})


def test_a_function_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptModelError, match="no function prefill; it has main"):
        Evaluator(head(tmp_path / "head.mlpackage"), function="prefill")


# --- the engine ----------------------------------------------------------------------------------------------------

CONTEXT, WIDTH, VOCABULARY = 6, 4, 5
random = np.random.default_rng(3)


def language_model(path: Path, logits: str = "logits", keeps_last: bool = True) -> Path:
    """Adds up the embeddings of all tokens so far, with a cache of one layer."""
    table = random.normal(size=(VOCABULARY, WIDTH)).astype(np.float16)
    rows = ("float16", (1, 1, None, WIDTH))
    cache = ("float16", (1, 1, CONTEXT, WIDTH))
    bounds = {"begin": ["zero", "zero", "past", "zero"], "end": ["one", "one", "reach", "width"]}
    scalars = {"zero": [0], "one": [1], "width": [WIDTH]}
    operations = [
        op("const", ("table", "float16", table.shape), val=in_blob(table)),
        *(op("const", (name, "int32", (1,)), val=np.array(value)) for name, value in scalars.items()),
        op("shape", ("mask_shape", "int32", (4,)), x="fullAttentionMask"),
        op(
            "split",
            [(name, "int32", (1,)) for name in ("m0", "m1", "count", "reach")],
            x="mask_shape",
            num_splits=np.int32(4),
            axis=np.int32(0),
        ),
        op("sub", ("past", "int32", (1,)), x="reach", y="count"),
        op("gather", ("x", "float16", (1, None, WIDTH)), x="table", indices="inputIds", axis=np.int32(0)),
        op("expand_dims", ("rows", *rows), x="x", axes=np.array([1])),
        *(op("concat", (name, "int32", (4,)), values=parts, axis=np.int32(0)) for name, parts in bounds.items()),
        op("read_state", ("old", *cache), input="keyCache"),
        op("slice_update", ("new", *cache), x="old", update="rows", begin="begin", end="end"),
        op("write_state", [], input="keyCache", data="new"),
        op("read_state", ("kept", *cache), input="keyCache"),
        op("concat", ("none", "int32", (4,)), values=["zero", "zero", "zero", "zero"], axis=np.int32(0)),
        op("slice_by_index", ("known", *rows), x="kept", begin="none", end="end"),
        op("add", ("above", "float16", (1, 1, None, None)), x="fullAttentionMask", y=np.float16(1)),
        op("relu", ("seen", "float16", (1, 1, None, None)), x="above"),
        op("matmul", ("mixed", *rows), x="seen", y="known"),
        op("squeeze", ("hidden", "float16", (1, None, WIDTH)), x="mixed", axes=np.array([1])),
        op(
            "slice_by_index",
            ("last", "float16", (1, 1, WIDTH)),
            x="hidden",
            begin=np.array([0, -1, 0]),
            end=np.array([1, 0, WIDTH]),
            end_mask=np.array([True] * 3),
        ),
        op(
            "linear",
            (logits, "float16", (1, 1 if keeps_last else None, VOCABULARY)),
            x="last" if keeps_last else "hidden",
            weight="table",
        ),
    ]
    inputs = {"inputIds": ("int32", (1, 3)), "fullAttentionMask": ("float16", (1, 1, 3, 3))}
    ranges = {
        "inputIds": ((1, 1), (1, CONTEXT)),
        "fullAttentionMask": ((1, 1), (1, 1), (1, CONTEXT), (1, CONTEXT)),
    }
    states = {"keyCache": (1, 1, CONTEXT, WIDTH)}
    return write_package(path, operations, [logits], inputs=inputs, ranges=ranges, states=states)


@pytest.mark.parametrize("keeps_last", [True, False])
def test_an_engine_gives_the_same_logits_whole_in_chunks_and_for_each_position(
    keeps_last: bool, tmp_path: Path
) -> None:
    engine = CoreMlEngine(language_model(tmp_path / "model.mlpackage", keeps_last=keeps_last))
    assert (engine.prefill_chunk, engine.context_length, engine.vocab_size) == (3, CONTEXT, VOCABULARY)
    ids = np.array([4, 0, 2, 2, 1, 3])
    single = [engine.forward(ids[at : at + 1], at) for at in range(len(ids))]
    assert engine.forward(ids, 0).tolist() == single[-1].tolist()
    assert np.array_equal(np.concatenate([engine.forward_each(ids[:4], 0), engine.forward_each(ids[4:], 4)]), single)
    assert engine.forward(ids[2:3], 2).tolist() == single[2].tolist()  # rewound
    assert len({tuple(logits) for logits in single}) == len(single)
    with pytest.raises(ProgramInputError, match="inputIds"):
        engine.forward(np.zeros(CONTEXT + 1, np.int64), 0)
    engine.close()


def test_an_engine_uses_as_many_threads_as_it_is_told_and_puts_the_number_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [8]
    monkeypatch.setattr(threads, "_openblas", lambda: (lambda: numbers[-1], numbers.append))
    package = language_model(tmp_path / "model.mlpackage")
    CoreMlEngine(package).forward(np.array([1]), 0)
    assert numbers == [8, 1, 8]
    CoreMlEngine(package, threads=3).forward_each(np.array([1, 2]), 0)
    assert numbers == [8, 1, 8, 3, 8, 3, 8]
    monkeypatch.setattr(threads, "_openblas", lambda: None)  # numpy with another library
    assert np.isfinite(CoreMlEngine(package).forward(np.array([1]), 0)).all()


def test_a_package_with_another_interface_is_no_engine(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="it has no logits"):
        CoreMlEngine(language_model(tmp_path / "model.mlpackage", logits="scores"))
