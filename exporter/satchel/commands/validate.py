"""validate(): the proofs again, of bundles as they lie on disk, on any text and through any runtime here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from satchel import stages
from satchel.backends.registry import Backend
from satchel.bundle.manifest import Bundle, find_bundles, verify_bundle
from satchel.cache import Cache
from satchel.console import Console
from satchel.errors import NotBuiltYetError, UsageError
from satchel.hashing import content_bytes
from satchel.reference.prompt import PromptProgram
from satchel.reference.tokenizer import Tokenizer
from satchel.report.report import (
    REPORT_JSON,
    BackendReport,
    FileRecord,
    ReportHeader,
    merged,
    new_report,
    read_report,
    with_same_codes,
    write_report,
)
from satchel.source.checkpoint import Checkpoint
from satchel.stages import Workshop
from satchel.tools import Tools
from satchel.validate import proofs as prove
from satchel.validate import same_codes
from satchel.validate.behaviour import Text
from satchel.validate.texts import evaluation_texts, excerpts, user_texts
from satchel.versions import installed


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
    workshop = Workshop(Cache.default(), Tools(), console)
    bundles = _chosen(options)
    for bundle in bundles:
        stages.backend_of(bundle)
        verify_bundle(bundle)
    report: dict[str, Any] | None = None
    problems = []
    for bundle in bundles:
        name = bundle.manifest.backend
        checkpoint = stages.reference_of(bundle.manifest.model.source.sha256, options.model, workshop)
        part = _prove(stages.backend_of(bundle), bundle, checkpoint, options, workshop)
        header = _header(bundle, checkpoint)
        report = merged(report or new_report(header), name, part)
        if not options.texts:
            _remember(bundle, header, part)
        problems += [f"{name}: {', '.join(failed)}"] if (failed := stages.failed_proofs(part)) else []
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
    found = [bundle for bundle in bundles if stages.backend_of(bundle).android_library]
    if not found:
        names = ", ".join(bundle.manifest.backend for bundle in bundles)
        raise NotBuiltYetError(f"--target jvm runs the SDK's engine, and there is none for {names} yet: use host.")
    return found


def _prove(
    backend: Backend, bundle: Bundle, checkpoint: Checkpoint, options: ValidateOptions, workshop: Workshop
) -> BackendReport:
    manifest = bundle.manifest
    plan, slots = stages.read_slots(bundle.file("slots"))
    weights = stages.quantized(checkpoint, plan, workshop)
    program = bundle.file("program")
    with workshop.console.stage("Weights") as stage:
        equal = backend.format.read_back(program, slots, weights)
        stage.note(f"{sum(equal.values())} of {len(equal)} tensors equal")
    spec = stages.program_spec(checkpoint, plan, manifest.context_length, manifest.prefill_chunk)
    graph = stages.skeleton(backend, spec, workshop).proof
    tokenizer = Tokenizer.from_bytes(bundle.file("tokenizer").read_bytes())
    prompts = PromptProgram.from_json(bundle.file("prompt").read_text(encoding="utf-8"))
    if options.texts:
        texts = user_texts(options.texts, tokenizer, manifest.context_length)
    else:
        texts = evaluation_texts(tokenizer, prompts if prompts.kind != "raw" else None, manifest.context_length)
    limits = manifest.verdict.gates
    with workshop.console.stage("Validate") as stage:
        stage.note(f"{sum(len(text.ids) for text in texts)} tokens through {options.target}")
        behaviour = _TARGETS[options.target](backend, bundle, checkpoint, texts, limits, stage.progress, workshop)
    shapes = {name: checkpoint.tensors[name].shape for name in plan.tensors}
    predicted = backend.format.predict_bytes(plan, shapes, spec.config, spec.context_length)
    size = content_bytes(program)
    return BackendReport(
        artifact=program.name,
        bytes=size,
        sha256=manifest.artifact("program").sha256,
        predicted_bytes=predicted,
        bits_per_weight=stages.bits_per_weight(size, shapes),
        graph=graph,
        weights=equal,
        target=options.target,
        figures=replace(behaviour.figures, worst=excerpts(behaviour.worst, texts, tokenizer)),
        gates=prove.structural_gates(float(graph["max_abs"]), size, predicted),
        files=tuple(FileRecord(file.role, file.file, file.bytes, file.sha256) for file in manifest.artifacts),
        tools={**manifest.tools, **installed(), **workshop.tools.versions()},
    )


def _host(
    backend: Backend,
    bundle: Bundle,
    checkpoint: Checkpoint,
    texts: Sequence[Text],
    limits: Mapping[str, float],
    progress: Callable[[int, int], None],
    workshop: Workshop,
) -> prove.Behaviour:
    return prove.behaviour_on_host(backend.runtime(), checkpoint, bundle.file("program"), texts, limits, progress)


def _jvm(
    backend: Backend,
    bundle: Bundle,
    checkpoint: Checkpoint,
    texts: Sequence[Text],
    limits: Mapping[str, float],
    progress: Callable[[int, int], None],
    workshop: Workshop,
) -> prove.Behaviour:
    """The Kotlin engine of the Android library, over the stand-in of the device's runtime."""
    from satchel.runtimes.jvm import JvmEngine, build_host_engine, server_command

    host = build_host_engine(workshop.cache, workshop.tools, backend.name)
    command = server_command(host, bundle.path, workshop.tools, threads=1)
    engines: list[JvmEngine] = []

    def open_engine() -> JvmEngine:
        engines.append(JvmEngine(command, workshop.tools))
        return engines[-1]

    return prove.prove_behaviour(
        checkpoint, open_engine, lambda: engines[-1].resident_bytes() if engines else 0, texts, limits, progress
    )


_TARGETS = {"host": _host, "jvm": _jvm}


def _header(bundle: Bundle, checkpoint: Checkpoint) -> ReportHeader:
    manifest = bundle.manifest
    return stages.report_header(checkpoint, manifest.recipe, manifest.context_length)


def _remember(bundle: Bundle, header: ReportHeader, part: BackendReport) -> None:
    """Adds the target's figures to the report of the build that the bundle lies in, if there is one about it."""
    home = bundle.path.parent.parent
    if not (home / REPORT_JSON).is_file():
        return
    report = read_report(home, header)
    known = report["backends"].get(bundle.manifest.backend)
    if known is None or known["sha256"] != part.sha256 or part.figures is None:
        return
    known["targets"][part.target] = part.figures.to_dict()
    write_report(home, report)
