"""Every backend: a file format, a lowering and a runtime that belong together. One literal dict; grep finds everything.

Lowering and runtime import their heavy packages inside the functions, so that this module stays light.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from satchel.formats import pte
from satchel.lower.spec import ProgramSpec
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.quantize.plan import QuantPlan
from satchel.runtimes.engine import Engine
from satchel.skeleton import Skeleton, Slot
from satchel.versions import require_pinned


class Format(Protocol):
    """A backend's file format: satchel.formats.<format>."""

    PROGRAM_FILE: str

    def predict_bytes(self, plan: QuantPlan, shapes: Mapping[str, tuple[int, ...]], layers: int) -> int: ...

    def fill(self, skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path) -> None: ...

    def read_back(self, path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint) -> dict[str, bool]: ...


@dataclass(frozen=True)
class Backend:
    """lower(spec, folder) writes a Skeleton with its graph proof. runtime() imports the runtime and returns
    open(program, threads), so that loading a program can be timed without the import.

    lowering_code: subpackages whose sources are part of a skeleton's key. minimum_runtime: oldest runtime on a device.
    cpu_features: ABI -> features that the runtime's operators are compiled for.
    """

    name: str
    format: Format
    lower: Callable[[ProgramSpec, Path], None]
    runtime: Callable[[], Callable[[Path, int | None], Engine]]
    lowering_code: tuple[str, ...]
    minimum_runtime: str
    cpu_features: Mapping[str, tuple[str, ...]]


def _lower_executorch(spec: ProgramSpec, folder: Path) -> None:
    require_pinned("executorch")
    from satchel.lower.executorch import lower_skeleton
    from satchel.validate.graph import prove

    lower_skeleton(spec, folder, prove(spec).as_dict())


def _executorch_runtime() -> Callable[[Path, int | None], Engine]:
    require_pinned("executorch")
    from satchel.runtimes.executorch import ExecuTorchEngine

    return ExecuTorchEngine


_format: Any = pte  # a module is a Format

BACKENDS: Mapping[str, Backend] = {
    "executorch": Backend(
        name="executorch",
        format=_format,
        lower=_lower_executorch,
        runtime=_executorch_runtime,
        lowering_code=("lower", "formats/pte.py", "validate/graph.py"),
        minimum_runtime="1.5.0",
        # executorch-android builds its LLM operators for dot product instructions (Armv8.2).
        cpu_features={"arm64-v8a": ("asimddp",)},
    ),
}
