"""How fast the program runs here and what it costs: load time, prefill and decode speed, memory."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from satchel.reference.engine import Engine, EvaluatorEngine

_PREFILL_TOKENS = 256
_DECODE_TOKENS = 48


@dataclass(frozen=True)
class Speed:
    """load_s: seconds until the first forward can run. Speeds in tokens per second, the best of three rounds (noise
    only ever slows). memory_mb: the most resident memory that the program added to its process, in 10^6 bytes, from
    before it was loaded to the end of the last round. All None for an evaluator, which no device runs."""

    load_s: float | None
    prefill_tps: float | None
    decode_tps: float | None
    memory_mb: float | None


def measure_speed(open_engine: Callable[[], Engine], peak: Callable[[], int]) -> tuple[Engine, Speed]:
    """Opens the engine and times it; the engine stays open. `peak`: like `own_peak`'s, of the engine's process."""
    before = peak()
    started = time.perf_counter()
    engine = open_engine()
    load = time.perf_counter() - started
    if isinstance(engine, EvaluatorEngine):
        return engine, Speed(None, None, None, None)
    ids = np.random.default_rng(3).integers(0, engine.vocab_size, _PREFILL_TOKENS)
    ids = ids[: engine.context_length - 2]
    prefill, decode, memory = [], [], [peak()]
    for _ in range(3):
        started = time.perf_counter()
        for start in range(0, len(ids), engine.prefill_chunk):
            engine.forward(ids[start : start + engine.prefill_chunk], start)
        prefill.append(len(ids) / (time.perf_counter() - started))
        steps = min(_DECODE_TOKENS, engine.context_length - len(ids))
        started = time.perf_counter()
        for step in range(steps):
            engine.forward(ids[step : step + 1], len(ids) + step)
        decode.append(steps / (time.perf_counter() - started))
        memory.append(peak())
    return engine, Speed(load, max(prefill), max(decode), (max(memory) - before) / 1e6)


def machine() -> str:
    """What this machine is, for a person who reads the speeds: processor, cores, system."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    processor = named or platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
