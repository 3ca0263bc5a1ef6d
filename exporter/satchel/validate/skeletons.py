"""ProgramSpec -> Skeleton with its graph proof: the slow part, done once per architecture, plan, context and tools."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satchel.backends.backend import Backend
from satchel.errors import GraphProofError
from satchel.report.figures import GRAPH_TOLERANCE
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Skeleton, read_skeleton, write_skeleton
from satchel.versions import locked, source_hash
from satchel.workshop import Workshop


def proven_skeleton(backend: Backend, spec: ProgramSpec, workshop: Workshop) -> Skeleton:
    """The Skeleton from the cache, else lowered after the graph proof, whose figures it keeps.

    Raises GraphProofError if the proof failed: now, or when the Skeleton was to be lowered. Then the cache has the
    figures alone, since nothing may be filled.
    """
    key = skeleton_key(backend, spec)
    with workshop.console.stage("Lower") as stage:
        folder = workshop.cache.find("skeleton", key)
        if folder is not None:
            stage.reused()
        else:
            stage.note(f"{spec.config['num_hidden_layers']} layers for {backend.name}; minutes, but only once")
            folder = workshop.cache.get_or_build("skeleton", key, lambda attempt: _lower(backend, spec, attempt))
        skeleton = read_skeleton(folder)
        if problem := _problem(skeleton.proof):
            raise GraphProofError(
                f"{backend.name}: the program that {spec.config.get('model_type')} is lowered to is not proven to be "
                f"Hugging Face's model: {problem}. No recipe changes that: it is a defect to report. Another backend "
                "may be proven (--backend)."
            )
        return skeleton.telling(spec.bos_id, spec.stop_ids)


def _lower(backend: Backend, spec: ProgramSpec, folder: Path) -> None:
    proof = graph_proof(spec, backend)
    if _problem(proof):
        write_skeleton(folder, backend=backend.name, program=bytearray(), slots=[], regions=[], proof=proof)
    else:
        backend.lower(spec, folder, proof)


def _problem(proof: Mapping[str, Any]) -> str:
    """Why a graph proof with these figures failed, with value and limit; empty if it passed."""
    if not proof["relative"] <= GRAPH_TOLERANCE:  # NaN is not
        return (
            f"its logits differ by {proof['relative']:.2g} of the largest one, and at most {GRAPH_TOLERANCE:.2g} is "
            "allowed"
        )
    return f"something in it depends on a weight and has no slot: {proof['incomplete']}" if proof["incomplete"] else ""


def graph_proof(spec: ProgramSpec, backend: Backend) -> Mapping[str, Any]:
    """The figures of `graph.prove`, which needs torch."""
    from satchel.validate.graph import prove

    return prove(spec, backend).as_dict()


def is_lowered(backend: Backend, spec: ProgramSpec, workshop: Workshop) -> bool:
    """True if the Skeleton is in the cache, so that no converter is needed."""
    return workshop.cache.find("skeleton", skeleton_key(backend, spec)) is not None


def skeleton_key(backend: Backend, spec: ProgramSpec) -> dict[str, Any]:
    """What a Skeleton and its proof depend on: the spec, the locked tools, and our code that lowers and proves."""
    return {
        "backend": backend.name,
        "variant": backend.variant,
        "spec": spec.key(),
        "tools": locked(backend.name),
        "code": source_hash(backend.lowering_code, backend.runtime_code, "validate.graph"),
    }
