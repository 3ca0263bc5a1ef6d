"""ProgramSpec -> Skeleton with its graph proof: the slow part, done once per architecture, plan, context and tools."""

from collections.abc import Mapping
from typing import Any

from satchel.backends.backend import Backend
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Skeleton, read_skeleton
from satchel.versions import locked, source_hash
from satchel.workshop import Workshop


def proven_skeleton(backend: Backend, spec: ProgramSpec, workshop: Workshop) -> Skeleton:
    """The Skeleton from the cache, else lowered after the graph proof (whose figures it keeps, passed or not)."""
    key = skeleton_key(backend, spec)
    with workshop.console.stage("Lower") as stage:
        folder = workshop.cache.find("skeleton", key)
        if folder is not None:
            stage.reused()
        else:
            stage.note(f"{spec.config['num_hidden_layers']} layers for {backend.name}; minutes, but only once")
            folder = workshop.cache.get_or_build(
                "skeleton", key, lambda attempt: backend.lower(spec, attempt, graph_proof(spec, backend))
            )
        return read_skeleton(folder).telling(spec.bos_id, spec.stop_ids)


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
