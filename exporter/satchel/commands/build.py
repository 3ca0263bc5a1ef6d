"""build(): from a model to verified bundles and libraries. The story, straight through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from satchel import __version__
from satchel.backends.backend import Backend
from satchel.backends.registry import BACKENDS, NATIVE_OFFSET, VARIANTS, backend_of
from satchel.bundle.folder import Bundle, bundles_in, find_bundles, read_bundle, verify_bundle
from satchel.bundle.output import ANDROID, BUNDLES, opened_output
from satchel.commands.assemble import Ingredients, assemble
from satchel.commands.endings import ending_objection
from satchel.compile.assets import TextAssets, text_assets
from satchel.console import ArtifactRow, Console
from satchel.errors import UsageError
from satchel.files import require_apart
from satchel.package.android.libraries import (
    REPOSITORY,
    Coordinates,
    Packaged,
    gradle_dependencies,
    gradle_settings,
    package_android,
)
from satchel.package.android.sdk import require_compiler
from satchel.quantize.kept import quantized
from satchel.quantize.planning import plan_for
from satchel.quantize.recipe import Recipe, load_recipe
from satchel.report.reading import Reading
from satchel.report.report import (
    BackendReport,
    FileRecord,
    ReportHeader,
    SameCodes,
    merged,
    new_report,
    read_report,
    with_reading,
    with_same_codes,
    write_report,
)
from satchel.skeleton.spec import ProgramSpec
from satchel.source.checkpoint import Checkpoint
from satchel.source.remembered import remembered_model
from satchel.source.support import check_context_length
from satchel.validate import same_codes
from satchel.validate.expected import Expected
from satchel.validate.readings import checked_reading
from satchel.validate.reference_pass import expected, has_reference, require_sense
from satchel.validate.skeletons import is_lowered, proven_skeleton
from satchel.validate.texts import evaluation_texts
from satchel.versions import require_pinned
from satchel.workshop import Workshop

MINIMUM_CONTEXT = 32  # the graph proof needs room for a prefill and for decoding after it


@dataclass(frozen=True)
class BuildOptions:
    """What `satchel build` was asked for. context: tokens, None for the recipe's. companions: with .litertlm.

    coreml_offset: linear | native, where Core ML programs carry block offsets.
    """

    model: str
    backends: Sequence[str] = ("executorch",)
    recipe: str = "int4"
    context: int | None = None
    out: Path = Path("build")
    validate: bool = True
    companions: bool = True
    group: str = "dev.satchel"
    namespace: str = "dev.satchel"
    model_version: str = __version__
    coreml_offset: str = "linear"

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments that build the same again, wherever the results go."""
        backends = [argument for name in self.backends for argument in ("--backend", name)]
        context = [] if self.context is None else ["--context", str(self.context)]
        given = {"--group": self.group, "--namespace": self.namespace, "--model-version": self.model_version}
        usual = {"--group": "dev.satchel", "--namespace": "dev.satchel", "--model-version": __version__}
        names = [argument for name, value in given.items() if value != usual[name] for argument in (name, value)]
        flags = [
            *([] if self.validate else ["--no-validate"]),
            *([] if self.companions else ["--no-litertlm"]),
        ]
        return ("satchel", "build", self.model, *backends, "--recipe", self.recipe, *context, *names, *flags)


@dataclass(frozen=True)
class BuildResult:
    """rows: the table at the end. failure: why nothing was packed, or empty. gradle: lines to paste."""

    rows: Sequence[ArtifactRow]
    report: Mapping[str, Any]
    report_html: Path
    failure: str
    gradle: Sequence[str]


def build(options: BuildOptions, console: Console) -> BuildResult:
    """MODEL to bundles, libraries and report under `options.out`.

    A failed gate leaves bundle and report under `out`/rejected, packs nothing and leaves the last good output alone;
    so does an error at any moment: everything is published at once, when everything is packed (satchel.bundle.output).
    Raises GraphProofError before anything is filled if what the model is lowered to is not proven.
    """
    workshop = Workshop.default(console)
    coordinates = Coordinates(options.group, options.namespace, options.model_version)
    recipe = _with_context(load_recipe(options.recipe), options.context)
    backends = _backends(options)
    for note in dict.fromkeys(note for backend in backends.values() for note in backend.notes):
        console.warn(note)
    require_apart(options.out, options.model)
    with opened_output(options.out) as output:
        neighbours = _neighbours(output.bundles, backends)
        for_android = any(backend.android_library for backend in backends.values())
        if for_android:
            require_compiler(workshop.cache, workshop.tools)
        checkpoint = remembered_model(options.model, workshop)
        check_context_length(checkpoint, recipe.context_length)
        plan = plan_for(recipe, checkpoint)
        spec = ProgramSpec.of(checkpoint, plan, recipe.context_length, recipe.prefill_chunk)
        for backend in backends.values():
            _require_packages(backend, spec, options.validate, workshop)
        relatives = _relatives(neighbours, checkpoint, recipe, console)
        assets = text_assets(checkpoint, workshop)
        if objection := ending_objection(checkpoint.tokenizer.stop_ids, assets):
            console.warn(objection)
        reading = checked_reading(checkpoint, assets, checkpoint.tokenizer.stop_ids, workshop)

        made_from = Ingredients(
            checkpoint=checkpoint,
            recipe=recipe,
            spec=spec,
            assets=assets,
            expected=_expected(checkpoint, assets, spec, workshop) if options.validate else None,
            weights=quantized(checkpoint, plan, workshop),
            companions=options.companions,
        )
        # All of them first: a graph proof that fails ends the build before anything is filled or measured.
        skeletons = {name: proven_skeleton(backend, spec, workshop) for name, backend in backends.items()}
        parts = {
            name: assemble(backend, made_from, skeletons[name], output.work / BUNDLES / name, workshop)
            for name, backend in backends.items()
        }
        bundles = [*find_bundles(output.work / BUNDLES), *relatives]
        same = same_codes.compare(bundles)
        failure = _failure(parts, same, recipe)
        libraries: list[Packaged] | None = None
        if for_android and not failure:
            libraries = package_android(
                [bundle for bundle in bundles if backend_of(bundle).android_library],
                output.work / ANDROID,
                coordinates,
                workshop.cache,
                workshop.tools,
                console,
            )
        report = _report(options, parts, same, checkpoint, recipe, reading, libraries, None if failure else options.out)
        page = write_report(output.work, report).name
        if failure:
            home = output.reject()
        else:
            output.publish()
            home = options.out
    return BuildResult(
        _rows(parts, libraries or []), report, home / page, failure, _gradle(options.out, libraries or [])
    )


def _backends(options: BuildOptions) -> dict[str, Backend]:
    """The backends by name, in the form that was asked for."""
    backends = {name: BACKENDS[name] for name in options.backends}
    if options.coreml_offset == "native":
        if "coreml" not in backends:
            raise UsageError("--coreml-offset native is for Core ML: use it with --target ios or --backend coreml")
        backends["coreml"] = VARIANTS["coreml", NATIVE_OFFSET]
    return backends


def _require_packages(backend: Backend, spec: ProgramSpec, validate: bool, workshop: Workshop) -> None:
    """Raises ToolMissingError now, before slow work, if lowering or measuring would: a package is missing.

    A build from a known skeleton that measures nothing needs none.
    """
    if not is_lowered(backend, spec, workshop) or (validate and has_reference()):
        require_pinned(backend.name)


def _expected(checkpoint: Checkpoint, assets: TextAssets, spec: ProgramSpec, workshop: Workshop) -> Expected | None:
    """What the float reference expects, before any slow work; None without torch. Raises NonsenseError if what it
    expects is nonsense."""
    if not has_reference():
        workshop.console.warn(
            "No float reference can be computed here (torch is not installed): behaviour is not measured and the "
            "verdict is weights-only."
        )
        return None
    prompts = assets.program if assets.program.kind != "raw" else None
    found = expected(checkpoint, evaluation_texts(assets.tokenizer, prompts, spec.context_length), workshop)
    if doubt := require_sense(found):
        workshop.console.warn(doubt)
    return found


def _with_context(recipe: Recipe, context: int | None) -> Recipe:
    """The recipe for this context length, if one was asked for; its chunk is never longer than the context."""
    length = context or recipe.context_length
    if length < MINIMUM_CONTEXT:
        raise UsageError(f"a context of {length} tokens is too short to prove: use {MINIMUM_CONTEXT} or more")
    return replace(recipe, context_length=length, prefill_chunk=min(recipe.prefill_chunk, length))


def _neighbours(folder: Path, backends: Mapping[str, Backend]) -> list[Bundle]:
    """The bundles of the last build that this run does not replace; raises BundleError for one that can't be read."""
    return [read_bundle(bundle) for bundle in bundles_in(folder) if bundle.name not in backends]


def _relatives(neighbours: Sequence[Bundle], checkpoint: Checkpoint, recipe: Recipe, console: Console) -> list[Bundle]:
    """Those of `neighbours` that are the same model in other formats: they are packed and compared with the new ones.

    The others stay as they are, and are named. Raises BundleError for a damaged one, before any slow work.
    """
    wanted = (checkpoint.source.sha256, recipe.name, recipe.context_length)
    relatives: list[Bundle] = []
    others: list[Bundle] = []
    for bundle in neighbours:
        manifest = bundle.manifest
        is_relative = (manifest.model.source.sha256, manifest.recipe, manifest.context_length) == wanted
        (relatives if is_relative else others).append(bundle)
    for bundle in relatives:
        verify_bundle(bundle)
    if others:
        console.warn(f"{_listed(others)} stays as it is and is not packed: of another model, recipe or context.")
    return relatives


def _listed(bundles: Sequence[Bundle]) -> str:
    return ", ".join(
        f"{bundle.path} ({one.model.id}, {one.recipe}, {one.context_length} tokens)"
        for bundle in bundles
        for one in (bundle.manifest,)
    )


def _failure(parts: Mapping[str, BackendReport], same: SameCodes | None, recipe: Recipe) -> str:
    """What failed, with values and limits, and the recipe to try next where that helps; empty if nothing did."""
    failed = {backend: part.failed_proofs for backend, part in parts.items()}
    problems = [f"{backend}: {', '.join(proofs)}" for backend, proofs in failed.items() if proofs]
    problems += [same.problem] if same is not None and same.problem else []
    if not problems:
        return ""
    reason = f"Recipe {recipe.name} fails its gates" if _recipe_matters(parts, same) else "A proof failed"
    advice = f" Try --recipe {recipe.next}." if recipe.next and _recipe_matters(parts, same) else ""
    return f"{reason} and nothing was packed: {'; '.join(problems)}.{advice}"


def _recipe_matters(parts: Mapping[str, BackendReport], same: SameCodes | None) -> bool:
    """True if behaviour alone failed, at most: whatever else fails is a defect, which another recipe has too."""
    elsewhere = any(part.failed_proofs != part.failed_gates_of_behaviour for part in parts.values())
    return not elsewhere and not (same is not None and same.problem)


def _report(
    options: BuildOptions,
    parts: Mapping[str, BackendReport],
    same: SameCodes | None,
    checkpoint: Checkpoint,
    recipe: Recipe,
    reading: Reading,
    libraries: Sequence[Packaged] | None,
    last: Path | None,
) -> Mapping[str, Any]:
    """The parts of this build, added to the report in `last` if it is about the same model."""
    header = ReportHeader.of(checkpoint, recipe.name, recipe.context_length)
    report = new_report(header) if last is None else read_report(last, header)
    records = None
    if libraries is not None:
        records = [FileRecord("library", str(one.coordinate), one.bytes, one.sha256) for one in libraries]
    for backend, part in parts.items():
        report = merged(report, backend, replace(part, command=options.command), records)
    following = recipe.next if _recipe_matters(parts, same) else None
    return with_same_codes({**with_reading(report, reading), "next_recipe": following}, same)


def _rows(parts: Mapping[str, BackendReport], libraries: Sequence[Packaged]) -> list[ArtifactRow]:
    rows = []
    for backend, part in parts.items():
        figures = part.figures
        rows.append(
            ArtifactRow(
                artifact=f"{backend}/{part.artifact}",
                bytes=part.bytes,
                sha256=part.sha256,
                bits_per_weight=part.bits_per_weight,
                kl_mean=figures.kl_mean if figures else None,
                top1=figures.top1 if figures else None,
                tokens_per_second=figures.decode_tps if figures else None,
            )
        )
    rows += [ArtifactRow(artifact=one.file.name, bytes=one.bytes, sha256=one.sha256) for one in libraries]
    return rows


def _gradle(out: Path, libraries: Sequence[Packaged]) -> list[str]:
    if not libraries:
        return []
    repository = (out.resolve() / ANDROID / REPOSITORY).as_posix()  # pasted into a project that lies elsewhere
    return [*gradle_settings(repository), *gradle_dependencies(libraries)]
