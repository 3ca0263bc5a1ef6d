"""Measures a peer that is an Engine, in the process that holds it."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peers.job import Closeness, Job, Speed
from satchel.reference.engine import Engine
from satchel.validate.behaviour import measure
from satchel.validate.expected import Expected
from satchel.validate.fidelity import pooled
from satchel.validate.texts import WHOLE_CONTEXT, Evaluation, Text


def peak_mb() -> float:
    """The most memory this process had resident, in 10^6 bytes.

    Linux only: getrusage's figure, which others have, starts at that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def engine_speed(open_engine: Callable[[], Engine], job: Job, bare_mb: float) -> Speed:
    """Each pass reads a prompt in the engine's own chunks and then its answer, one token at a time."""
    started = time.perf_counter()
    engine = open_engine()
    engine.forward(np.array(job.prompts[0][:1], np.int64), 0)
    load = time.perf_counter() - started
    prefill, decode = [], []
    for prompt, answer in zip(job.prompts, job.answers, strict=True):
        ids = np.array([*prompt, *answer], np.int64)
        started = time.perf_counter()
        for start in range(0, len(prompt), engine.prefill_chunk):
            engine.forward(ids[start : min(start + engine.prefill_chunk, len(prompt))], start)
        prefill.append(len(prompt) / (time.perf_counter() - started))
        started = time.perf_counter()
        for position in range(len(prompt), len(ids)):
            engine.forward(ids[position : position + 1], position)
        decode.append(len(answer) / (time.perf_counter() - started))
    return Speed(load, max(prefill), max(decode), peak_mb(), bare_mb)


def engine_closeness(engine: Engine, job: Job) -> Closeness:
    """The product's own evaluation (satchel.validate.behaviour) on logits of the float model computed before."""
    folder = Path(job.texts)
    count = len(list(folder.glob("*.ids.npy")))
    ids = [np.load(folder / f"{index}.ids.npy") for index in range(count)]
    *texts, whole = [Text(str(index), one) for index, one in enumerate(ids[:-1])] + [Text(WHOLE_CONTEXT, ids[-1])]
    logits = {
        text.name: np.load(folder / f"{index}.logits.npy", mmap_mode="r") for index, text in enumerate([*texts, whole])
    }
    evaluation = Evaluation(tuple(texts), whole, texts[0])
    expected = Expected(evaluation, logits, dict.fromkeys(logits, 0.0), lambda rows: rows)
    results = pooled(measure(_InChunks(engine, job.chunk), expected))
    return Closeness(results.kl_mean, results.top1, len(results.kl))


class _InChunks:
    """The engine, asked for chunks of one length whatever its own is, so that all are judged at the same positions."""

    def __init__(self, engine: Engine, chunk: int) -> None:
        self._engine = engine
        self.prefill_chunk = chunk
        self.context_length, self.vocab_size = engine.context_length, engine.vocab_size

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        return self._engine.forward(tokens, position)

    def close(self) -> None:
        self._engine.close()
