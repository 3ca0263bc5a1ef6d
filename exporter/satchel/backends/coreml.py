"""Core ML: .mlpackage programs, with block offsets beside the weights or, as a variant, inside them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.backends.backend import Backend, Format, OpenProgram, Program
from satchel.formats import mlpackage, mlpackage_native
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.skeleton.spec import ProgramSpec
from satchel.versions import require_pinned


class CoreMl(Backend):
    name = "coreml"
    format: Format = mlpackage
    lowering_code = "lower.coreml"
    runtime_code = "runtimes.coreml"
    minimum_runtime = "18.0"  # of iOS; macOS 15
    # The Neural Engine is known to compute 4-bit blocks wrongly, without a word.
    compute_units = "cpuAndGPU"
    cache_number_bytes = 2  # the states are float16
    native_offset = False

    def lower(self, spec: ProgramSpec, folder: Path, proof: Mapping[str, Any]) -> None:
        require_pinned(self.name)
        from satchel.lower.coreml import lower_skeleton

        lower_skeleton(spec, folder, proof, self.native_offset)

    def lower_weights(self, spec: ProgramSpec, weights: QuantizedCheckpoint) -> Program:
        require_pinned(self.name)
        from satchel.lower.coreml import lower

        return lower(spec, weights, self.native_offset)

    def lower_dequantized(self, spec: ProgramSpec, weights: QuantizedCheckpoint) -> Program:
        require_pinned(self.name)
        from satchel.lower.coreml import lower_dequantized

        return lower_dequantized(spec, weights, self.native_offset)

    def runtime(self) -> OpenProgram:
        from satchel.runtimes.coreml import CoreMlEngine

        return CoreMlEngine

    def exact_runtime(self) -> OpenProgram:
        from satchel.runtimes.coreml import CoreMlEngine

        return partial(CoreMlEngine, exact=True)


class CoreMlNativeOffset(CoreMl):
    format = mlpackage_native
    native_offset = True
    variant = "native-offset"
    notes = (
        "Block offsets stand inside the weights as float16 (--coreml-offset native). "
        "This form has not been run on a device yet.",
    )

    def weight(self, tensor: QuantizedTensor) -> NDArray[np.float32]:
        return mlpackage_native.native_weight(tensor)
