"""Behaviour: the program reads the evaluation texts, and its next-token distributions are held against the reference's.

Teacher forcing: both models read the same text and predict every next token. The program reads by turns as an app does,
a stretch as a prefill chunk and a stretch token by token, so that a prefill that differs from decode shows. After each
forward there is a distribution to compare. The text that fills the context is read in chunks of full length with few
tokens between them, so that a program that is wrong only late in its context shows, too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from satchel.reference.engine import Engine, EvaluatorEngine
from satchel.validate.expected import ROWS, Expected
from satchel.validate.fidelity import Comparison, Fidelity
from satchel.validate.texts import WHOLE_CONTEXT, Text

LAST = 8  # positions at the end of the context that are read one by one
_CLUSTER = 32  # neighbouring positions that are taken to depend on one another
_STRETCH = 32  # tokens of a text that are read in one way before the other
_IN_WHOLE = 256  # positions to measure in the whole context, about
_DECODED = 4  # tokens at the end of a text that an evaluator reads one by one


@dataclass(frozen=True)
class Step:
    """One forward: it reads the tokens start <= index < end of a text, and the logits after those from `measured` on
    are compared. cluster: which positions belong together; None for those of 32 neighbours."""

    start: int
    end: int
    measured: int
    cluster: int | None = None

    @property
    def in_chunk(self) -> bool:
        return self.end - self.start > 1


def measure(
    engine: Engine, expected: Expected, progress: Callable[[int, int], None] = lambda done, total: None
) -> Mapping[str, Fidelity]:
    """text name -> Fidelity, of every text that the reference has read."""
    total, done = expected.evaluation.tokens, 0
    results: dict[str, Fidelity] = {}
    for text in expected.evaluation.all:
        comparison = Comparison(text, expected.bits[text.name])
        for steps in _grouped(_steps(engine, text)):
            rows = iter(
                expected.log_probabilities(text.name, [i for one in steps for i in range(one.measured, one.end)])
            )
            for step in steps:
                for index, logits in _run(engine, text, step):
                    comparison.add(
                        index,
                        next(rows),
                        logits,
                        in_chunk=step.in_chunk and index == step.end - 1,
                        cluster=index // _CLUSTER if step.cluster is None else step.cluster,
                    )
            progress(done + steps[-1].end, total)
        done += len(text.ids)
        results[text.name] = comparison.fidelity()
    return results


def _run(engine: Engine, text: Text, step: Step) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(index, logits [vocab] after that token) of what the step measures."""
    ids = text.ids[step.start : step.end]
    if isinstance(engine, EvaluatorEngine) and step.in_chunk:
        every = engine.forward_each(ids, step.start)
        yield from ((index, every[index - step.start]) for index in range(step.measured, step.end))
        return
    logits = engine.forward(ids, step.start)
    if step.measured < step.end:
        yield step.end - 1, logits


def _grouped(steps: Iterator[Step]) -> Iterator[list[Step]]:
    """Steps that measure ROWS positions together, or one that measures more."""
    group: list[Step] = []
    rows = 0
    for step in steps:
        if group and rows + step.end - step.measured > ROWS:
            yield group
            group, rows = [], 0
        group.append(step)
        rows += step.end - step.measured
    if group:
        yield group


def _steps(engine: Engine, text: Text) -> Iterator[Step]:
    count, chunk = len(text.ids), engine.prefill_chunk
    is_whole = text.name == WHOLE_CONTEXT
    if isinstance(engine, EvaluatorEngine):
        return _every_position(count, chunk, LAST if is_whole else _DECODED)
    if is_whole:
        chunk = min(chunk, max(1, count // 8))  # each quarter has two at least
        return _by_turns(count, chunk, min(chunk, max(1, round(chunk * _IN_WHOLE / count))), LAST)
    return _by_turns(count, min(chunk, _STRETCH), _STRETCH, first=min(count, _STRETCH))


def _every_position(count: int, chunk: int, last: int) -> Iterator[Step]:
    """Chunks that give all their positions; the last few tokens one by one."""
    one_by_one = max(count - last, 0)
    for start in range(0, one_by_one, chunk):
        yield Step(start, min(start + chunk, one_by_one), start)
    for index in range(one_by_one, count):
        yield Step(index, index + 1, index)


def _by_turns(count: int, chunk: int, decoded: int, last: int = 0, first: int = 0) -> Iterator[Step]:
    """A chunk, some tokens one by one, and so on; the `first` and the `last` tokens one by one.

    What is measured in one turn is a cluster: the end of the chunk and the tokens after it.
    """
    yield from (Step(index, index + 1, index, 0) for index in range(first))
    end, cluster, start = max(count - last, first), 1, first
    while start < end:
        after_chunk = min(start + chunk, end)
        yield Step(start, after_chunk, after_chunk - 1, cluster)
        start = min(after_chunk + decoded, end)
        yield from (Step(index, index + 1, index, cluster) for index in range(after_chunk, start))
        cluster += 1
    yield from (Step(index, index + 1, index, cluster) for index in range(end, count))
