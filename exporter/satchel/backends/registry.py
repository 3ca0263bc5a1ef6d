"""Every backend: a file format, a lowering and a runtime that belong together. One literal dict; grep finds everything.

Lowering and runtime import their heavy packages inside the functions, so that this module stays light.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from satchel.bundle.manifest import SpecialIds
from satchel.formats import mlpackage, mlpackage_native, pte, tflite
from satchel.formats.carried import carried_weight
from satchel.package import litertlm
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.quantize.plan import QuantPlan
from satchel.reference.engine import Engine
from satchel.reference.prompt import PromptProgram
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Skeleton, Slot
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
    an engine for it, so that its bundle is packed as a library. compute_units: what an app must ask Core ML for.
    cache_number_bytes: of one number in the KV cache. variant: what tells it from the backend of the same name in
    BACKENDS, else empty. notes: what a manifest must say.
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
    compute_units: str | None = None
    cache_number_bytes: int = 4
    variant: str = ""
    notes: tuple[str, ...] = ()


def _lower_coreml(spec: ProgramSpec, folder: Path, native_offset: bool = False) -> None:
    require_pinned("coreml")
    from satchel.lower.coreml import lower_dequantized, lower_skeleton
    from satchel.runtimes.coreml import CoreMlEngine
    from satchel.validate.graph import Subject, prove

    lower = partial(lower_dequantized, native_offset=native_offset)
    weight = mlpackage_native.native_weight if native_offset else carried_weight
    proof = prove(spec, Subject(lower, partial(CoreMlEngine, exact=True), weight))
    lower_skeleton(spec, folder, proof.as_dict(), native_offset)


def _coreml_runtime() -> Callable[[Path, int | None], Engine]:
    from satchel.runtimes.coreml import CoreMlEngine

    return CoreMlEngine


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


_mlpackage: Any = mlpackage  # a module is a Format
_mlpackage_native: Any = mlpackage_native
_pte: Any = pte
_tflite: Any = tflite

_SHARED_CODE = (
    "formats/carried.py",
    "formats/packing.py",
    "lower/decoder.py",
    "lower/placeholder.py",
    "lower/quantized.py",
    "skeleton/spec.py",
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
    "coreml": Backend(
        name="coreml",
        format=_mlpackage,
        lower=_lower_coreml,
        runtime=_coreml_runtime,
        lowering_code=(
            *_SHARED_CODE,
            "formats/mlpackage.py",
            "formats/mlpackage_native.py",
            "lower/coreml.py",
            "lower/coreml_modules.py",
            "lower/coreml_weights.py",
        ),
        minimum_runtime="18.0",  # of iOS; macOS 15
        cpu_features={},
        # The Neural Engine is known to compute 4-bit blocks wrongly, without a word.
        compute_units="cpuAndGPU",
        cache_number_bytes=2,  # the states are float16
        android_library=False,
    ),
}

# Options of a backend that give another program: (backend, variant) -> the backend.
NATIVE_OFFSET = "native-offset"
VARIANTS: Mapping[tuple[str, str], Backend] = {
    ("coreml", NATIVE_OFFSET): replace(
        BACKENDS["coreml"],
        format=_mlpackage_native,
        lower=partial(_lower_coreml, native_offset=True),
        variant=NATIVE_OFFSET,
        notes=(
            "Block offsets stand inside the weights as float16 (--coreml-offset native). "
            "This form has not been run on a device yet.",
        ),
    )
}
