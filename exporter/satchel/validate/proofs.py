"""The proofs of one artifact. These are they, in the order in which they can fail:

- graph: the architecture, lowered, computes Hugging Face's model, and everything in it that depends on a weight has a
  slot (`complete`). `graph` proves it when a Skeleton is lowered, and the Skeleton keeps the figures; a build or
  validation ends where it failed (`skeletons`);
- skeleton: outside the places of its weights the artifact is the Skeleton, byte for byte: what is proven of the one
  holds for the other;
- weights: every code, scale and offset read back from the artifact equals the QuantizedCheckpoint, bit for bit;
- size: the artifact is as large as its plan predicts;
- behaviour: over texts, the program stays close to the float reference (`measured`), on one of the `targets`;
- same codes: the artifacts of one model hold the same numbers (`same_codes`, of several artifacts at once).

This module puts what one artifact showed into its part of the report, where its gates give the verdict.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from satchel.backends.backend import Backend
from satchel.hashing import content_bytes, content_sha256
from satchel.quantize.plan import TensorPlan
from satchel.quantize.stored import StoredQuantizedCheckpoint
from satchel.report.figures import GRAPH_TOLERANCE, Figures, Gate
from satchel.report.report import BackendReport, TensorRecord
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Skeleton
from satchel.source.checkpoint import Checkpoint
from satchel.versions import installed

SIZE_TOLERANCE = 0.03
# A program's graph has its own size, which only outweighs the weights of toy models.
SIZE_SLACK = 64_000


@dataclass(frozen=True)
class Program:
    """An artifact with all that its proofs compare it with. file: the program, a file or a folder of the bundle.

    skeleton: what `spec` lowers to, with its table of slots and its graph proof.
    """

    file: Path
    backend: Backend
    spec: ProgramSpec
    checkpoint: Checkpoint
    weights: StoredQuantizedCheckpoint
    skeleton: Skeleton

    def difference_from_skeleton(self) -> str:
        """Where the file is another program than the Skeleton, in words; empty if only the weights are its own."""
        return self.skeleton.difference(self.file, self.backend.format.weights_file(self.file))

    def weights_equal(self) -> dict[str, bool]:
        """Tensor -> whether what is read back from the file equals the QuantizedCheckpoint, bit for bit."""
        return self.backend.format.read_back(self.file, self.skeleton.slots, self.weights)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: self.checkpoint.tensors[name].shape for name in self.weights.plan.tensors}


def backend_report(
    program: Program,
    difference: str,
    equal: Mapping[str, bool],
    figures: Figures | None,
    tools: Mapping[str, str],
    target: str = "host",
) -> BackendReport:
    """What the proofs of `program` showed. difference: from the Skeleton, equal: of the weights, as its methods tell
    them. figures: behaviour's, None if it was not measured. tools: name -> version of
    programs that took part."""
    size = content_bytes(program.file)
    predicted = program.backend.format.predict_bytes(
        program.weights.plan, program.shapes, program.spec.config, program.spec.context_length
    )
    return BackendReport(
        artifact=program.file.name,
        bytes=size,
        sha256=content_sha256(program.file),
        predicted_bytes=predicted,
        bits_per_weight=bits_per_weight(size, program.shapes),
        graph=program.skeleton.proof,
        difference=difference,
        weights=equal,
        target=target,
        figures=figures,
        gates=structural_gates(float(program.skeleton.proof["relative"]), size, predicted),
        tensors=tuple(_tensors(program)),
        tools={**installed(), **tools},
    )


def structural_gates(graph_relative: float, size: int, predicted: int) -> dict[str, Gate]:
    """Gates that need no run of the model: the graph proof's difference as a part of the largest logit, and the size
    against the prediction."""
    limit = max(SIZE_TOLERANCE, SIZE_SLACK / predicted)
    off = abs(size - predicted) / predicted
    return {"graph_relative": Gate(graph_relative, GRAPH_TOLERANCE), "size_off_prediction": Gate(off, limit)}


def bits_per_weight(size: int, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Bits of the artifact per parameter of the model; a tied table counts once."""
    return 8 * size / sum(math.prod(shape) for shape in shapes.values())


def _tensors(program: Program) -> Iterator[TensorRecord]:
    weights, plan = program.weights, program.weights.plan
    stored: dict[str, int] = {}
    for slot in program.skeleton.slots:
        name = plan.canonical(slot.tensor)
        stored[name] = stored.get(name, 0) + slot.bytes
    for name, entry in plan.tensors.items():
        info = program.checkpoint.tensors[name]
        yield TensorRecord(name, info.shape, info.stored_type, _scheme(entry), weights.origin[name], stored[name])


def _scheme(plan: TensorPlan) -> str:
    return f"{plan.scheme} + offset" if plan.offset else plan.scheme
