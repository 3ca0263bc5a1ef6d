"""LiteRT: .tflite programs, and the same packed for LiteRT-LM."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satchel.backends.backend import Backend, Companion, OpenProgram, Program
from satchel.formats import tflite
from satchel.package import litertlm
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.skeleton.spec import ProgramSpec
from satchel.versions import require_pinned


class LiteRt(Backend):
    name = "litert"
    format = tflite
    lowering_code = "lower.litert"
    runtime_code = "runtimes.litert"
    minimum_runtime = "2.1.0"  # XNNPACK chooses its kernels on the device: no feature is required
    android_library = True
    companion = Companion("litertlm", litertlm.FILE, litertlm.write)

    def lower(self, spec: ProgramSpec, folder: Path, proof: Mapping[str, Any]) -> None:
        require_pinned(self.name)
        from satchel.lower.litert import lower_skeleton

        lower_skeleton(spec, folder, proof)

    def lower_weights(self, spec: ProgramSpec, weights: QuantizedCheckpoint) -> Program:
        require_pinned(self.name)
        from satchel.lower.litert import lower

        return lower(spec, weights)

    def lower_dequantized(self, spec: ProgramSpec, weights: QuantizedCheckpoint) -> Program:
        require_pinned(self.name)
        from satchel.lower.litert import lower_dequantized

        return lower_dequantized(spec, weights)

    def runtime(self) -> OpenProgram:
        require_pinned(self.name)
        from satchel.runtimes.litert import LiteRtEngine

        return LiteRtEngine
