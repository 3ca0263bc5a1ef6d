"""What a backend is: a file format, a lowering and a runtime that belong together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from satchel.bundle.manifest import SpecialIds
from satchel.formats.carried import carried_weight
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.quantize.plan import QuantPlan
from satchel.reference.engine import Engine
from satchel.reference.prompt import PromptProgram
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Skeleton, Slot

Program = bytes | bytearray | Mapping[str, bytes]  # of a program that is a folder, each file's bytes by its path
OpenProgram = Callable[[Path, int | None], Engine]  # path, threads (None: the runtime's own choice)


class Format(Protocol):
    """A backend's file format: a module of satchel.formats."""

    PROGRAM_FILE: str

    def weights_file(self, program: Path) -> Path: ...

    def predict_bytes(
        self, plan: QuantPlan, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], context_length: int
    ) -> int: ...

    def fill(self, skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path) -> None: ...

    def read_back(self, path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint) -> dict[str, bool]: ...

    def first_difference(self, filled: Path, lowered: Path) -> str: ...


@dataclass(frozen=True)
class Companion:
    """A further file of the bundle, made from the finished program for users of the platform's own engine.

    write(path, program, tokenizer_json, prompts, context_length, tokens).
    """

    role: str
    file: str
    write: Callable[[Path, Path, str, PromptProgram, int, SpecialIds], None]


class Backend(Protocol):
    """One backend; its module in this package derives from this and is listed in registry.BACKENDS.

    Modules here stay light: what is heavy is imported inside the methods.

    lowering_code, runtime_code: modules of satchel that lower and run, which with all that they import are part of the
    keys of what they made. minimum_runtime: oldest runtime on a device. cpu_features: ABI -> features that the
    runtime's operators are compiled for. android_library: True if the SDK has an engine for it, so that its bundle is
    packed as a library. compute_units: what an app must ask Core ML for. cache_number_bytes: of one number in the KV
    cache. variant: what tells it from the backend of the same name in BACKENDS, else empty. notes: what a manifest
    must say.
    """

    name: str
    format: Format
    lowering_code: str
    runtime_code: str
    minimum_runtime: str
    cpu_features: Mapping[str, tuple[str, ...]] = {}
    android_library: bool = False
    companion: Companion | None = None
    compute_units: str | None = None
    cache_number_bytes: int = 4
    variant: str = ""
    notes: tuple[str, ...] = ()

    def lower(self, spec: ProgramSpec, folder: Path, proof: Mapping[str, Any]) -> None:
        """Writes the Skeleton of `spec`, with its graph proof, to `folder`. Raises LoweringError, ModelError."""
        ...

    def lower_weights(self, spec: ProgramSpec, weights: QuantizedCheckpoint) -> Program:
        """The program lowered with these weights: what the Skeleton of `spec`, filled with them, must be."""
        ...

    def lower_dequantized(self, spec: ProgramSpec, weights: QuantizedCheckpoint) -> Program:
        """The program in the quantized decomposition with everything in float32: what a graph proof compares."""
        ...

    def runtime(self) -> OpenProgram:
        """Imports the runtime and returns what loads a program, so that loading can be timed without the import."""
        ...

    def exact_runtime(self) -> OpenProgram:
        """The runtime for a graph proof: nothing is rounded that the program computes in float32."""
        return self.runtime()

    def weight(self, tensor: QuantizedTensor) -> NDArray[np.float32]:
        """The float32 weight that the program stands for."""
        return carried_weight(tensor)
