"""validate(): the proofs again, of bundles as they lie on disk, on any text and through any runtime here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from satchel.backends.backend import Backend
from satchel.backends.registry import backend_of
from satchel.bundle.folder import Bundle, find_bundles, verify_bundle
from satchel.bundle.slots import read_slots
from satchel.compile.assets import TextAssets
from satchel.console import Console
from satchel.errors import NotBuiltYetError, UsageError
from satchel.quantize.kept import quantized
from satchel.reference.prompt import PromptProgram
from satchel.reference.tokenizer import Tokenizer
from satchel.report.reading import Reading
from satchel.report.report import (
    REPORT_JSON,
    BackendReport,
    FileRecord,
    ReportHeader,
    merged,
    new_report,
    read_report,
    with_reading,
    with_same_codes,
    write_report,
)
from satchel.skeleton.spec import ProgramSpec
from satchel.source.checkpoint import Checkpoint
from satchel.source.remembered import reference_of
from satchel.validate import same_codes
from satchel.validate.excerpts import excerpts
from satchel.validate.proofs import Program, backend_report
from satchel.validate.readings import checked_reading
from satchel.validate.reference_pass import expected, require_sense
from satchel.validate.skeletons import proven_skeleton
from satchel.validate.targets import TARGETS
from satchel.validate.texts import evaluation_texts, user_texts
from satchel.workshop import Workshop


@dataclass(frozen=True)
class ValidateOptions:
    """What `satchel validate` was asked for. texts: a user's files instead of Satchel's. target: host or jvm."""

    bundle: Path
    backends: Sequence[str] = ()
    texts: Sequence[Path] = ()
    model: str | None = None
    target: str = "host"


@dataclass(frozen=True)
class ValidateResult:
    """failure: what failed, with values and limits; empty if nothing did."""

    report: Mapping[str, Any]
    failure: str


def validate(options: ValidateOptions, console: Console) -> ValidateResult:
    """Every proof of every bundle. The build's own report learns the figures of a target it didn't measure."""
    workshop = Workshop.default(console)
    bundles = _chosen(options)
    for bundle in bundles:
        backend_of(bundle)
        verify_bundle(bundle)
    report: dict[str, Any] | None = None
    problems = []
    for bundle in bundles:
        name = bundle.manifest.backend
        checkpoint = reference_of(bundle.manifest.model.source.sha256, options.model, workshop)
        assets = _text_of(bundle)
        reading = checked_reading(checkpoint, assets, bundle.manifest.special_ids.stop, workshop)
        part = _prove(backend_of(bundle), bundle, checkpoint, assets, options, workshop)
        header = ReportHeader.of(checkpoint, bundle.manifest.recipe, bundle.manifest.context_length)
        report = with_reading(merged(report or new_report(header), name, part), reading)
        if not options.texts:
            _remember(bundle, header, part, reading)
        problems += [f"{name}: {', '.join(failed)}"] if (failed := part.failed_proofs) else []
    assert report is not None
    same = same_codes.compare(bundles)
    problems += [same.problem] if same is not None and same.problem else []
    return ValidateResult(
        with_same_codes(report, same), f"The bundle failed. {'; '.join(problems)}." if problems else ""
    )


def _chosen(options: ValidateOptions) -> list[Bundle]:
    bundles = find_bundles(options.bundle)
    if options.target == "jvm":
        bundles = _with_android_engine(bundles)
    if not options.backends:
        return bundles
    found = {bundle.manifest.backend: bundle for bundle in bundles}
    missing = [name for name in options.backends if name not in found]
    if missing:
        raise UsageError(f"{options.bundle} has no bundle for {', '.join(missing)}; it has {', '.join(found)}")
    return [found[name] for name in options.backends]


def _with_android_engine(bundles: list[Bundle]) -> list[Bundle]:
    """The SDK's own engine runs on the JVM: bundles of a backend that has none are left to other targets."""
    found = [bundle for bundle in bundles if backend_of(bundle).android_library]
    if not found:
        names = ", ".join(bundle.manifest.backend for bundle in bundles)
        raise NotBuiltYetError(f"--target jvm runs the SDK's engine, and there is none for {names} yet: use host.")
    return found


def _text_of(bundle: Bundle) -> TextAssets:
    """Tokenizer and prompt program as they lie in the bundle."""
    compiled = bundle.file("tokenizer").read_bytes()
    return TextAssets(
        bundle.file("tokenizer_json").read_text(encoding="utf-8"),
        compiled,
        Tokenizer.from_bytes(compiled),
        PromptProgram.from_json(bundle.file("prompt").read_text(encoding="utf-8")),
    )


def _prove(
    backend: Backend,
    bundle: Bundle,
    checkpoint: Checkpoint,
    assets: TextAssets,
    options: ValidateOptions,
    workshop: Workshop,
) -> BackendReport:
    manifest = bundle.manifest
    plan, _ = read_slots(bundle.file("slots"))
    spec = ProgramSpec.of(checkpoint, plan, manifest.context_length, manifest.prefill_chunk)
    weights = quantized(checkpoint, plan, workshop)
    skeleton = proven_skeleton(backend, spec, workshop)
    program = Program(bundle.file("program"), backend, spec, checkpoint, weights, skeleton)
    with workshop.console.stage("Weights") as stage:
        difference, equal = program.difference_from_skeleton(), program.weights_equal()
        stage.note(f"{sum(equal.values())} of {len(equal)} tensors equal")
    tokenizer, prompts = assets.tokenizer, assets.program
    if options.texts:
        evaluation = user_texts(options.texts, tokenizer, manifest.context_length)
    else:
        evaluation = evaluation_texts(tokenizer, prompts if prompts.kind != "raw" else None, manifest.context_length)
    found = expected(checkpoint, evaluation, workshop)
    if not options.texts and (doubt := require_sense(found)):
        workshop.console.warn(doubt)
    with workshop.console.stage("Validate") as stage:
        stage.note(f"{evaluation.tokens} tokens through {options.target}")
        behaviour = TARGETS[options.target](program, found, manifest.verdict.gates, stage.progress, workshop)
    figures = replace(behaviour.figures, worst=excerpts(behaviour.worst, evaluation.all, tokenizer))
    report = backend_report(program, difference, equal, figures, workshop.tools.versions(), options.target)
    files = tuple(FileRecord(file.role, file.file, file.bytes, file.sha256) for file in manifest.artifacts)
    return replace(report, files=files, tools={**manifest.tools, **report.tools})


def _remember(bundle: Bundle, header: ReportHeader, part: BackendReport, reading: Reading) -> None:
    """Adds the target's figures, and who has read the source, to the report of the build that the bundle lies in, if
    there is one about it."""
    home = bundle.path.parent.parent
    if not (home / REPORT_JSON).is_file():
        return
    report = read_report(home, header)
    known = report["backends"].get(bundle.manifest.backend)
    if known is None or known["sha256"] != part.sha256 or part.figures is None:
        return
    known["targets"][part.target] = part.figures.to_dict()
    write_report(home, with_reading(report, reading) if reading.checked_by else report)
