"""Target host: the backend's own runtime in this process."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from satchel.hashing import content_sha256
from satchel.runtimes.memory import own_peak
from satchel.validate.expected import Expected
from satchel.validate.measured import Behaviour, measured_behaviour, read_behaviour, write_behaviour
from satchel.validate.proofs import Program
from satchel.versions import found_here, locked, processor, source_hash
from satchel.workshop import Workshop

_REFERENCE = ("torch", "transformers")


def measure(
    program: Program,
    expected: Expected,
    limits: Mapping[str, float],
    progress: Callable[[int, int], None],
    workshop: Workshop,
) -> Behaviour:
    """Behaviour of the program here and now."""
    open_program = program.backend.runtime()
    return measured_behaviour(expected, lambda: open_program(program.file, None), own_peak(), limits, progress)


def measure_once(program: Program, expected: Expected, limits: Mapping[str, float], workshop: Workshop) -> Behaviour:
    """The same, from the cache if this very program was measured before on this machine with these tools."""
    key = behaviour_key(program, expected, limits)
    with workshop.console.stage("Validate") as stage:
        folder = workshop.cache.find("behaviour", key)
        if folder is not None:
            stage.reused()
            return read_behaviour(folder, limits)
        stage.note(f"{expected.evaluation.tokens} tokens against the float model")
        behaviour = measure(program, expected, limits, stage.progress, workshop)
        figures = behaviour.figures
        if math.isfinite(figures.kl_mean):  # a program without numbers fails its gate; there is nothing to keep
            workshop.cache.get_or_build("behaviour", key, lambda attempt: write_behaviour(behaviour, attempt))
        stage.note(f"KL {figures.kl_mean:.4f}, top-1 {figures.top1:.3f} over {figures.tokens} positions")
        return behaviour


def behaviour_key(program: Program, expected: Expected, limits: Mapping[str, float]) -> dict[str, Any]:
    """What a measurement depends on: the program and the source, the texts, the runtime, what computes the reference,
    this machine, and the code that measures."""
    return {
        "program": content_sha256(program.file),
        "source": program.checkpoint.source.sha256,
        "texts": {text.name: [int(i) for i in text.ids] for text in expected.evaluation.all},
        "limits": dict(limits),  # golden.json's tolerance depends on them
        "tools": {"runtime": locked(program.backend.name), **found_here(*_REFERENCE)},
        "machine": processor(),
        "code": source_hash(program.backend.runtime_code, "validate.measured", "validate.reference"),
    }
