"""One backend's bundle: fill the skeleton, prove the artifact, write everything a device needs beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from satchel import __version__
from satchel.backends.backend import Backend
from satchel.bundle.folder import GOLDEN, PROMPT, SLOTS, TOKENIZER, TOKENIZER_JSON, write_manifest
from satchel.bundle.manifest import BundledModel, Manifest, Origin, Requirements, SpecialIds, Verdict
from satchel.bundle.slots import write_slots
from satchel.compile.assets import TextAssets, write_text_assets
from satchel.compile.golden import build_golden
from satchel.quantize.recipe import Recipe, gate_limits
from satchel.quantize.stored import StoredQuantizedCheckpoint
from satchel.report.report import BackendReport, FileRecord
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Skeleton
from satchel.source.checkpoint import Checkpoint
from satchel.source.sampling import sampling_defaults
from satchel.source.support import key_rows
from satchel.validate.excerpts import excerpts
from satchel.validate.expected import Expected
from satchel.validate.measured import Behaviour
from satchel.validate.proofs import Program, backend_report
from satchel.validate.targets.host import measure_once
from satchel.versions import pinned
from satchel.workshop import Workshop


@dataclass(frozen=True)
class Ingredients:
    """What every bundle of one build is made from.

    expected: what the float reference expects of the evaluation texts; None if behaviour is not to be measured.
    companions: also write what the backend's own engine reads (LiteRT-LM's file).
    """

    checkpoint: Checkpoint
    recipe: Recipe
    spec: ProgramSpec
    weights: StoredQuantizedCheckpoint
    assets: TextAssets
    expected: Expected | None
    companions: bool


def assemble(
    backend: Backend, made_from: Ingredients, skeleton: Skeleton, folder: Path, workshop: Workshop
) -> BackendReport:
    """Fills the new `folder` with the bundle and returns its part of the report, whatever the gates say."""
    folder.mkdir(parents=True)
    checkpoint, spec, weights, assets = made_from.checkpoint, made_from.spec, made_from.weights, made_from.assets
    file = folder / backend.format.PROGRAM_FILE
    program = Program(file, backend, spec, checkpoint, weights, skeleton)
    with workshop.console.stage("Fill") as stage:
        backend.format.fill(skeleton, weights, file)
        stage.note("reading back")
        difference, equal = program.difference_from_skeleton(), program.weights_equal()
        stage.note(f"{len(equal)} tensors written and read back")
    limits = gate_limits(made_from.recipe.gates.get(backend.name))
    expected = made_from.expected
    behaviour = None if expected is None else _behaviour(program, expected, assets, limits, workshop)
    figures = behaviour.figures if behaviour else None
    report = backend_report(program, difference, equal, figures, workshop.tools.versions())

    write_text_assets(assets, folder)
    weights_file = backend.format.weights_file(file)
    write_slots(folder / SLOTS, weights_file.relative_to(folder).as_posix(), weights.plan, skeleton.slots)
    golden = build_golden(
        assets.tokenizer_json, assets.tokenizer, assets.program, behaviour.golden if behaviour else None
    )
    (folder / GOLDEN).write_text(golden, encoding="utf-8")
    manifest = manifest_of(made_from, backend, Verdict(report.verdict, limits), weights_file.stat().st_size)
    files = {
        "program": file.name,
        "tokenizer": TOKENIZER,
        "tokenizer_json": TOKENIZER_JSON,
        "prompt": PROMPT,
        "golden": GOLDEN,
        "slots": SLOTS,
    }
    if made_from.companions and (companion := backend.companion) is not None:
        files[companion.role] = companion.file
        companion.write(
            folder / companion.file,
            file,
            assets.tokenizer_json,
            assets.program,
            spec.context_length,
            manifest.special_ids,
        )
    manifest = write_manifest(folder, manifest, files)
    records = tuple(FileRecord(one.role, one.file, one.bytes, one.sha256) for one in manifest.artifacts)
    return replace(report, files=records, tools={**manifest.tools, **report.tools})


def _behaviour(
    program: Program, expected: Expected, assets: TextAssets, limits: Mapping[str, float], workshop: Workshop
) -> Behaviour:
    """The measurement on this machine, its worst positions in words."""
    behaviour = measure_once(program, expected, limits, workshop)
    worst = excerpts(behaviour.worst, expected.evaluation.all, assets.tokenizer)
    return replace(behaviour, figures=replace(behaviour.figures, worst=worst))


# --- the manifest -------------------------------------------------------------------------------------------------


def manifest_of(made_from: Ingredients, backend: Backend, verdict: Verdict, program_bytes: int) -> Manifest:
    """The manifest without its artifacts, which `write_manifest` adds."""
    checkpoint, spec = made_from.checkpoint, made_from.spec
    source, tokenizer = checkpoint.source, checkpoint.tokenizer
    return Manifest(
        model=BundledModel(
            id=checkpoint.model_id,
            architecture=str(checkpoint.config["architectures"][0]),
            license=source.license,
            source=Origin(source.kind, source.reference, source.revision, source.sha256),
        ),
        recipe=made_from.recipe.name,
        backend=backend.name,
        context_length=spec.context_length,
        prefill_chunk=spec.prefill_chunk,
        vocab_size=int(checkpoint.config["vocab_size"]),
        special_ids=SpecialIds(tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tuple(tokenizer.stop_ids)),
        generation_defaults={**sampling_defaults(checkpoint.generation_config), "max_new_tokens": 256},
        requires=Requirements(
            sdk=__version__,
            runtime=backend.minimum_runtime,
            cpu_features=backend.cpu_features,
            compute_units=backend.compute_units,
            memory_bytes=memory_bytes(spec, program_bytes, backend.cache_number_bytes),
        ),
        verdict=verdict,
        tools={"satchel": __version__, **pinned(backend.name)},
        variant=backend.variant,
        notes=backend.notes,
    )


_WORKING_MEMORY = 64 << 20  # activations, logits, the runtime itself


def memory_bytes(spec: ProgramSpec, program_bytes: int, cache_number_bytes: int) -> int:
    """What a device should have free: the program (runtimes pack its weights anew), the KV cache, and the rest.

    A prediction, so that the same inputs give the same manifest; the report has what was measured.
    """
    layers = int(spec.config["num_hidden_layers"])
    cache = 2 * layers * key_rows(spec.config) * spec.context_length * cache_number_bytes
    return program_bytes + cache + _WORKING_MEMORY
