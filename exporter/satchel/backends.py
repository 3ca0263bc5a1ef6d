"""Every backend: a file format, a lowering and a runtime that belong together. One literal dict; grep finds everything.

Lowering and runtime import their heavy packages inside the functions, so that this module stays light.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from satchel.bundle import SpecialIds
from satchel.formats import litertlm, pte, tflite
from satchel.lower.spec import ProgramSpec
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.quantize.plan import QuantPlan
from satchel.reference.prompt import PromptProgram
from satchel.runtimes.engine import Engine
from satchel.skeleton import Skeleton, Slot
from satchel.versions import require_pinned


class Format(Protocol):
    """A backend's file format: satchel.formats.<format>."""

    PROGRAM_FILE: str

    def weights_file(self, program: Path) -> Path: ...

    def predict_bytes(
        self, plan: QuantPlan, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], context_length: int
    ) -> int: ...

    def fill(self, skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path) -> None: ...

    def read_back(self, path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint) -> dict[str, bool]: ...


@dataclass(frozen=True)
class Companion:
    """A further file of the bundle, made from the finished program for users of the platform's own engine.

    write(path, program, tokenizer_json, prompts, context_length, tokens).
    """

    role: str
    file: str
    write: Callable[[Path, Path, str, PromptProgram, int, SpecialIds], None]


@dataclass(frozen=True)
class Backend:
    """lower(spec, folder) writes a Skeleton with its graph proof. runtime() imports the runtime and returns
    open(program, threads), so that loading a program can be timed without the import.

    lowering_code: subpackages whose sources are part of a skeleton's key. minimum_runtime: oldest runtime on a device.
    cpu_features: ABI -> features that the runtime's operators are compiled for. android_library: True if the SDK has
    an engine for it, so that its bundle is packed as a library.
    """

    name: str
    format: Format
    lower: Callable[[ProgramSpec, Path], None]
    runtime: Callable[[], Callable[[Path, int | None], Engine]]
    lowering_code: tuple[str, ...]
    minimum_runtime: str
    cpu_features: Mapping[str, tuple[str, ...]]
    android_library: bool
    companion: Companion | None = None


def _lower_executorch(spec: ProgramSpec, folder: Path) -> None:
    require_pinned("executorch")
    from satchel.lower.executorch import lower_dequantized, lower_skeleton
    from satchel.validate.graph import Subject, prove

    proof = prove(spec, Subject(lower_dequantized, _executorch_runtime()))
    lower_skeleton(spec, folder, proof.as_dict())


def _executorch_runtime() -> Callable[[Path, int | None], Engine]:
    require_pinned("executorch")
    from satchel.runtimes.executorch import ExecuTorchEngine

    return ExecuTorchEngine


def _lower_litert(spec: ProgramSpec, folder: Path) -> None:
    require_pinned("litert")
    from satchel.lower.litert import lower_dequantized, lower_skeleton
    from satchel.validate.graph import Subject, prove

    proof = prove(spec, Subject(lower_dequantized, _litert_runtime()))
    lower_skeleton(spec, folder, proof.as_dict())


def _litert_runtime() -> Callable[[Path, int | None], Engine]:
    require_pinned("litert")
    from satchel.runtimes.litert import LiteRtEngine

    return LiteRtEngine


_pte: Any = pte  # a module is a Format
_tflite: Any = tflite

_SHARED_CODE = (
    "formats/carried.py",
    "formats/packing.py",
    "lower/decoder.py",
    "lower/placeholder.py",
    "lower/quantized.py",
    "lower/spec.py",
    "validate/graph.py",
)

BACKENDS: Mapping[str, Backend] = {
    "executorch": Backend(
        name="executorch",
        format=_pte,
        lower=_lower_executorch,
        runtime=_executorch_runtime,
        lowering_code=(
            *_SHARED_CODE,
            "formats/pte.py",
            "lower/executorch.py",
            "lower/executorch_patches.py",
            "lower/rewrite.py",
        ),
        minimum_runtime="1.5.0",
        # executorch-android builds its LLM operators for dot product instructions (Armv8.2).
        cpu_features={"arm64-v8a": ("asimddp",)},
        android_library=True,
    ),
    "litert": Backend(
        name="litert",
        format=_tflite,
        lower=_lower_litert,
        runtime=_litert_runtime,
        lowering_code=(*_SHARED_CODE, "formats/tflite.py", "lower/litert.py", "lower/litert_weights.py"),
        minimum_runtime="2.1.0",
        cpu_features={},  # XNNPACK chooses its kernels on the device
        android_library=True,
        companion=Companion("litertlm", litertlm.FILE, litertlm.write),
    ),
}
