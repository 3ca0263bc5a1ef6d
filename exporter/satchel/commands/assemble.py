"""One backend's bundle: fill the skeleton, prove the artifact, write everything a device needs beside it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from satchel import stages
from satchel.backends.registry import Backend
from satchel.bundle.manifest import Verdict, write_manifest
from satchel.compile.golden import build_golden
from satchel.hashing import content_bytes, content_sha256
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.quantize.recipe import Recipe
from satchel.quantize.stored import StoredQuantizedCheckpoint
from satchel.report.report import BackendReport, FileRecord, TensorRecord
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Skeleton, Slot
from satchel.source.checkpoint import Checkpoint
from satchel.stages import TextAssets, Workshop
from satchel.validate import proofs as prove
from satchel.validate.behaviour import Text
from satchel.validate.texts import evaluation_texts, excerpts
from satchel.versions import installed, source_hash

# What a measurement depends on. How it is shown is not in it: a new page measures nothing again.
_MEASURING_CODE = (
    "runtimes",
    "runtimes/mil",
    "validate/behaviour.py",
    "report/figures.py",
    "validate/proofs.py",
    "validate/reference.py",
    "validate/speed.py",
)


def assemble(
    backend: Backend,
    checkpoint: Checkpoint,
    recipe: Recipe,
    weights: StoredQuantizedCheckpoint,
    assets: TextAssets,
    folder: Path,
    validate: bool,
    companions: bool,
    workshop: Workshop,
) -> BackendReport:
    """Fills `folder` with the bundle and returns its part of the report, whatever the gates say.

    companions: also write what the backend's own engine reads (LiteRT-LM's file).
    """
    folder.mkdir(parents=True)
    spec = stages.program_spec(checkpoint, weights.plan, recipe.context_length, recipe.prefill_chunk)
    skeleton = stages.skeleton(backend, spec, workshop)
    program = folder / backend.format.PROGRAM_FILE
    with workshop.console.stage("Fill") as stage:
        backend.format.fill(skeleton, weights, program)
        stage.note("reading back")
        equal = backend.format.read_back(program, skeleton.slots, weights)
        stage.note(f"{len(equal)} tensors written and read back")
    limits = stages.gate_limits(recipe.gates.get(backend.name))
    behaviour = _behaviour(backend, checkpoint, spec, assets, program, limits, workshop) if validate else None

    stages.write_text_assets(assets, folder)
    slots_in = backend.format.weights_file(program).relative_to(folder).as_posix()
    stages.write_slots(folder / stages.SLOTS, slots_in, weights.plan, skeleton.slots)
    golden = build_golden(
        assets.tokenizer_json, assets.tokenizer, assets.program, behaviour.golden if behaviour else None
    )
    (folder / stages.GOLDEN).write_text(golden, encoding="utf-8")
    report = _report(backend, checkpoint, spec, weights, skeleton, program, equal, behaviour, workshop)
    verdict = Verdict(report.verdict, limits)
    manifest = stages.manifest_of(
        checkpoint, recipe, backend, spec, verdict, backend.format.weights_file(program).stat().st_size
    )
    files = _files(program.name)
    if companions and backend.companion is not None:
        companion = backend.companion
        files[companion.role] = companion.file
        companion.write(
            folder / companion.file,
            program,
            assets.tokenizer_json,
            assets.program,
            spec.context_length,
            manifest.special_ids,
        )
    manifest = write_manifest(folder, manifest, files)
    records = tuple(FileRecord(file.role, file.file, file.bytes, file.sha256) for file in manifest.artifacts)
    return replace(report, files=records, tools={**manifest.tools, **report.tools})


def _behaviour(
    backend: Backend,
    checkpoint: Checkpoint,
    spec: ProgramSpec,
    assets: TextAssets,
    program: Path,
    limits: Mapping[str, float],
    workshop: Workshop,
) -> prove.Behaviour | None:
    """The measurement on this machine, from the cache if this very program was measured before; None without torch."""
    if not prove.has_reference():
        workshop.console.warn(
            "No float reference can be computed here (torch is not installed): behaviour is not measured and the "
            "verdict is weights-only."
        )
        return None
    program_of_prompts = assets.program if assets.program.kind != "raw" else None
    texts = evaluation_texts(assets.tokenizer, program_of_prompts, spec.context_length)
    key = {
        "program": content_sha256(program),
        "source": checkpoint.source.sha256,
        "texts": {text.name: [int(i) for i in text.ids] for text in texts},
        "code": source_hash(*_MEASURING_CODE),
        "limits": dict(limits),  # golden.json's tolerance depends on them
    }
    with workshop.console.stage("Validate") as stage:
        folder = workshop.cache.find("behaviour", key)
        if folder is not None:
            stage.reused()
            return _in_words(prove.read_behaviour(folder, limits), texts, assets)
        stage.note(f"{sum(len(text.ids) for text in texts)} tokens against the float model")
        behaviour = prove.behaviour_on_host(backend.runtime(), checkpoint, program, texts, limits, stage.progress)
        figures = behaviour.figures
        if math.isfinite(figures.kl_mean):  # a program without numbers fails its gate; there is nothing to keep
            workshop.cache.get_or_build("behaviour", key, lambda attempt: prove.write_behaviour(behaviour, attempt))
        stage.note(f"KL {figures.kl_mean:.4f}, top-1 {figures.top1:.3f} over {figures.tokens} positions")
        return _in_words(behaviour, texts, assets)


def _in_words(behaviour: prove.Behaviour, texts: Sequence[Text], assets: TextAssets) -> prove.Behaviour:
    worst = excerpts(behaviour.worst, texts, assets.tokenizer)
    return replace(behaviour, figures=replace(behaviour.figures, worst=worst))


def _files(program: str) -> dict[str, str]:
    """role -> file of a bundle, in the manifest's order."""
    return {
        "program": program,
        "tokenizer": stages.TOKENIZER,
        "tokenizer_json": stages.TOKENIZER_JSON,
        "prompt": stages.PROMPT,
        "golden": stages.GOLDEN,
        "slots": stages.SLOTS,
    }


def _report(
    backend: Backend,
    checkpoint: Checkpoint,
    spec: ProgramSpec,
    weights: StoredQuantizedCheckpoint,
    skeleton: Skeleton,
    program: Path,
    equal: Mapping[str, bool],
    behaviour: prove.Behaviour | None,
    workshop: Workshop,
) -> BackendReport:
    """All but the bundle's files, whose manifest states this report's verdict."""
    size = content_bytes(program)
    shapes = {name: checkpoint.tensors[name].shape for name in weights.plan.tensors}
    predicted = backend.format.predict_bytes(weights.plan, shapes, spec.config, spec.context_length)
    return BackendReport(
        artifact=program.name,
        bytes=size,
        sha256=content_sha256(program),
        predicted_bytes=predicted,
        bits_per_weight=stages.bits_per_weight(size, shapes),
        graph=skeleton.proof,
        weights=equal,
        figures=behaviour.figures if behaviour else None,
        gates=prove.structural_gates(float(skeleton.proof["max_abs"]), size, predicted),
        tensors=tuple(_tensors(checkpoint, weights, skeleton.slots)),
        tools={**installed(), **workshop.tools.versions()},
    )


def _tensors(
    checkpoint: Checkpoint, weights: StoredQuantizedCheckpoint, slots: Sequence[Slot]
) -> Iterator[TensorRecord]:
    plan: QuantPlan = weights.plan
    stored: dict[str, int] = {}
    for slot in slots:
        name = plan.canonical(slot.tensor)
        stored[name] = stored.get(name, 0) + slot.bytes
    for name, entry in plan.tensors.items():
        info = checkpoint.tensors[name]
        yield TensorRecord(name, info.shape, info.stored_type, _scheme(entry), weights.origin[name], stored[name])


def _scheme(plan: TensorPlan) -> str:
    return f"{plan.scheme} + offset" if plan.offset else plan.scheme
