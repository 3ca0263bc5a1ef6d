"""ExecuTorch: .pte programs for XNNPACK."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satchel.backends.backend import Backend, OpenProgram, Program
from satchel.formats import pte
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.skeleton.spec import ProgramSpec
from satchel.versions import require_pinned


class ExecuTorch(Backend):
    name = "executorch"
    format = pte
    lowering_code = "lower.executorch"
    runtime_code = "runtimes.executorch"
    minimum_runtime = "1.5.0"
    # executorch-android builds its LLM operators for dot product instructions (Armv8.2).
    cpu_features: Mapping[str, tuple[str, ...]] = {"arm64-v8a": ("asimddp",)}
    android_library = True

    def lower(self, spec: ProgramSpec, folder: Path, proof: Mapping[str, Any]) -> None:
        require_pinned(self.name)
        from satchel.lower.executorch import lower_skeleton

        lower_skeleton(spec, folder, proof)

    def lower_weights(self, spec: ProgramSpec, weights: QuantizedCheckpoint) -> Program:
        require_pinned(self.name)
        from satchel.lower.executorch import lower

        return lower(spec, weights)[0]

    def lower_dequantized(self, spec: ProgramSpec, weights: QuantizedCheckpoint) -> Program:
        require_pinned(self.name)
        from satchel.lower.executorch import lower_dequantized

        return lower_dequantized(spec, weights)

    def runtime(self) -> OpenProgram:
        require_pinned(self.name)
        from satchel.runtimes.executorch import ExecuTorchEngine

        return ExecuTorchEngine
