"""The stages of a build, each one function from frozen values to the next; slow ones keep their result in the cache."""

import hashlib
import json
import math
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from satchel import __version__
from satchel.backends.registry import BACKENDS, VARIANTS, Backend
from satchel.bundle.manifest import (
    Bundle,
    BundledModel,
    Manifest,
    Origin,
    Requirements,
    SpecialIds,
    Verdict,
)
from satchel.cache import Cache
from satchel.compile.prompt import compile_prompt
from satchel.compile.tokenizer import compile_tokenizer
from satchel.console import Console
from satchel.errors import BundleError, ModelError, ModelNotFoundError, ReferenceMissingError
from satchel.files import assembled_folder, canonical_json, require_apart, require_replaceable, write_file
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.quantize.planning import plan_for
from satchel.quantize.quantize import quantize
from satchel.quantize.recipe import Gates, Recipe, load_recipe
from satchel.quantize.stored import StoredQuantizedCheckpoint, open_quantized
from satchel.reference.prompt import PromptProgram
from satchel.reference.tokenizer import Tokenizer
from satchel.report.report import BackendReport, ReportHeader
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Skeleton, Slot, read_skeleton
from satchel.source.checkpoint import Checkpoint
from satchel.source.resolve import open_model
from satchel.source.support import key_rows
from satchel.tools import Tools
from satchel.validate import proofs as prove
from satchel.versions import pinned, require_pinned, source_hash

TOKENIZER_JSON = "tokenizer.json"
TOKENIZER = "tokenizer.bin"
PROMPT = "prompt.json"
GOLDEN = "golden.json"
SLOTS = "slots.json"


@dataclass(frozen=True)
class Workshop:
    """What every stage works with: where results are kept, external programs, and where progress shows."""

    cache: Cache
    tools: Tools
    console: Console


# --- model --------------------------------------------------------------------------------------------------------


def model(name: str, workshop: Workshop) -> Checkpoint:
    """MODEL -> Checkpoint; remembers by content hash where it lies, so that a bundle finds its float reference."""
    with workshop.console.stage("Model") as stage:
        checkpoint = open_model(name, workshop.cache, workshop.tools)
        stage.note(f"{checkpoint.model_id}, {checkpoint.source.kind}, {len(checkpoint.tensors)} tensors")
        located = str(Path(name).resolve()) if Path(name).exists() else name
        write_file(_source_record(workshop.cache, checkpoint.source.sha256), canonical_json({"model": located}))
    return checkpoint


def reference_of(sha256: str, given: str | None, workshop: Workshop) -> Checkpoint:
    """The Checkpoint that a bundle was made from: found by content hash, else `given` (--model).

    Raises ReferenceMissingError if neither is there, what was found is gone or unusable by now, or it is another model.
    """
    record = _source_record(workshop.cache, sha256)
    name = given
    if name is None and record.is_file():
        name = json.loads(record.read_text(encoding="utf-8"))["model"]
    if name is None:
        raise ReferenceMissingError(
            f"The bundle's float reference (content hash {sha256[:12]}) is not in the cache. "
            "Name the model that the bundle was built from: --model MODEL."
        )
    try:
        checkpoint = model(name, workshop)
    except ModelError as error:
        if name == given:
            raise
        state = "is no longer there" if isinstance(error, ModelNotFoundError) else f"can't be used any more ({error})"
        raise ReferenceMissingError(
            f"The bundle was built from {name}, which {state}. Name the model that the bundle was built from: "
            "--model MODEL."
        ) from error
    if checkpoint.source.sha256 != sha256:
        raise ReferenceMissingError(
            f"{name} has the content hash {checkpoint.source.sha256[:12]}, the bundle was built from {sha256[:12]}. "
            "Name the model that the bundle was built from: --model MODEL."
        )
    return checkpoint


def _source_record(cache: Cache, sha256: str) -> Path:
    return cache.root / "sources" / f"{sha256}.json"


# --- text ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextAssets:
    """The tokenizer and the prompt program, compiled for devices."""

    tokenizer_json: str
    tokenizer_bytes: bytes
    tokenizer: Tokenizer
    program: PromptProgram


def text_assets(checkpoint: Checkpoint, workshop: Workshop) -> TextAssets:
    """Compiles tokenizer and chat template, cached: character classes are found by probing every code point.

    Raises TokenizerError or PromptTemplateError naming the construct that can't be represented.
    """
    source = checkpoint.tokenizer
    key = {
        "tokenizer": hashlib.sha256(source.tokenizer_json.encode()).hexdigest(),
        "template": source.chat_template,
        "tokens": [source.bos_token, source.eos_token],
        "code": source_hash("reference", "compile"),
        "tokenizers": metadata.version("tokenizers"),
        "regex": metadata.version("regex"),
        "python": platform.python_version(),  # its Unicode tables take part
    }
    with workshop.console.stage("Text") as stage:
        folder = workshop.cache.find("text", key)
        if folder is not None:
            stage.reused()
        else:
            folder = workshop.cache.get_or_build("text", key, lambda attempt: _compile_text(checkpoint, attempt))
        compiled = (folder / TOKENIZER).read_bytes()
        program = PromptProgram.from_json((folder / PROMPT).read_text(encoding="utf-8"))
        return TextAssets(source.tokenizer_json, compiled, Tokenizer.from_bytes(compiled), program)


def _compile_text(checkpoint: Checkpoint, folder: Path) -> None:
    source = checkpoint.tokenizer
    compiled = compile_tokenizer(source.tokenizer_json)
    program = compile_prompt(source.chat_template, Tokenizer.from_bytes(compiled), source.bos_token, source.eos_token)
    (folder / TOKENIZER).write_bytes(compiled)
    (folder / PROMPT).write_text(program.to_json(), encoding="utf-8")


def write_text_assets(assets: TextAssets, folder: Path) -> None:
    """tokenizer.json, tokenizer.bin and prompt.json of a bundle."""
    (folder / TOKENIZER_JSON).write_text(assets.tokenizer_json, encoding="utf-8")
    (folder / TOKENIZER).write_bytes(assets.tokenizer_bytes)
    (folder / PROMPT).write_text(assets.program.to_json(), encoding="utf-8")


# --- quantize, lower ------------------------------------------------------------------------------------------------


def quantized(checkpoint: Checkpoint, plan: QuantPlan, workshop: Workshop) -> StoredQuantizedCheckpoint:
    """Checkpoint + QuantPlan -> QuantizedCheckpoint, cached."""
    key = {
        "source": checkpoint.source.sha256,
        "plan": plan_to_json(plan),
        "code": source_hash("quantize", "source"),
    }
    with workshop.console.stage("Quantize") as stage:
        folder = workshop.cache.find("quantized", key)
        if folder is not None:
            stage.reused()
        else:
            folder = workshop.cache.get_or_build(
                "quantized", key, lambda attempt: _discard(quantize(checkpoint, plan, attempt, stage.progress))
            )
        return open_quantized(folder)


def quantize_to(name: str, recipe_name: str, out: Path, console: Console) -> dict[str, Any]:
    """`satchel quantize`: MODEL -> the QuantizedCheckpoint in the folder `out`; returns what became of the tensors.

    Raises OutputError before any slow work if `out` has to do with the model's folder, or is not Satchel's to replace.
    """
    require_apart(out, name)
    require_replaceable(out)
    workshop = Workshop(Cache.default(), Tools(), console)
    recipe = load_recipe(recipe_name)
    checkpoint = model(name, workshop)
    plan = plan_for(recipe, checkpoint)
    with console.stage("Quantize") as stage, assembled_folder(out) as folder:
        weights = quantize(checkpoint, plan, folder, stage.progress)
        size = sum(file.stat().st_size for file in folder.iterdir())
    return {
        "model": checkpoint.model_id,
        "recipe": recipe.name,
        "sha256": weights.sha256,
        "bytes": size,
        "tensors": dict(Counter(weights.origin.values())),
    }


def skeleton(backend: Backend, spec: ProgramSpec, workshop: Workshop) -> Skeleton:
    """ProgramSpec -> Skeleton with its graph proof: the slow part, done once per architecture, plan and context."""
    with workshop.console.stage("Lower") as stage:
        folder = workshop.cache.find("skeleton", skeleton_key(backend, spec))
        if folder is not None:
            stage.reused()
        else:
            stage.note(f"{spec.config['num_hidden_layers']} layers for {backend.name}; minutes, but only once")
            folder = workshop.cache.get_or_build(
                "skeleton", skeleton_key(backend, spec), lambda attempt: backend.lower(spec, attempt)
            )
        return read_skeleton(folder)


def require_packages(backend: Backend, spec: ProgramSpec, validate: bool, workshop: Workshop) -> None:
    """Raises ToolMissingError now, before slow work, if lowering or measuring would: a package is missing.

    A build from a known skeleton that measures nothing needs none.
    """
    lowered = workshop.cache.find("skeleton", skeleton_key(backend, spec)) is not None
    if not lowered or (validate and prove.has_reference()):
        require_pinned(backend.name)


def skeleton_key(backend: Backend, spec: ProgramSpec) -> dict[str, Any]:
    return {
        "backend": backend.name,
        "spec": spec.key(),
        "tools": dict(pinned(backend.name)),
        "code": source_hash(*backend.lowering_code),
        **({"variant": backend.variant} if backend.variant else {}),
    }


def program_spec(checkpoint: Checkpoint, plan: QuantPlan, context_length: int, prefill_chunk: int) -> ProgramSpec:
    return ProgramSpec(
        config=checkpoint.config,
        plan=plan,
        context_length=context_length,
        prefill_chunk=min(prefill_chunk, context_length - 1) or 1,
        bos_id=checkpoint.tokenizer.bos_id,
        stop_ids=checkpoint.tokenizer.stop_ids,
    )


def plan_to_json(plan: QuantPlan) -> dict[str, Any]:
    tensors = {name: [entry.scheme, entry.group, entry.offset] for name, entry in plan.tensors.items()}
    return {"tied": plan.tied, "tensors": tensors}


def plan_from_json(data: Mapping[str, Any]) -> QuantPlan:
    return QuantPlan({name: TensorPlan(*entry) for name, entry in data["tensors"].items()}, data["tied"])


def _discard(_: object) -> None:
    """The cache's build functions return nothing."""


# --- report -----------------------------------------------------------------------------------------------------


def report_header(checkpoint: Checkpoint, recipe: str, context_length: int) -> ReportHeader:
    source = checkpoint.source
    named = " ".join(filter(None, (source.kind, source.reference, source.revision)))
    return ReportHeader(checkpoint.model_id, recipe, named, source.sha256, source.license, context_length)


def failed_proofs(part: BackendReport) -> list[str]:
    """What of a backend's part failed, each with its value and limit."""
    failed = [
        f"{name} is {gate.value:.4g} and must be {'at least' if gate.at_least else 'at most'} {gate.limit:.4g}"
        for name, gate in part.all_gates.items()
        if not gate.passed
    ]
    if not part.weights_equal:
        failed.append("weights read back from the artifact differ from the quantized ones")
    return failed


def bits_per_weight(size: int, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Bits of the artifact per parameter of the model; a tied table counts once."""
    return 8 * size / sum(math.prod(shape) for shape in shapes.values())


# --- bundle -----------------------------------------------------------------------------------------------------


def backend_of(bundle: Bundle) -> Backend:
    """The backend that a bundle is for. Raises BundleError if this Satchel does not have it."""
    name, variant = bundle.manifest.backend, bundle.manifest.variant
    if name not in BACKENDS or (variant and (name, variant) not in VARIANTS):
        raise BundleError(
            f"{bundle.path} is for the backend {' '.join(filter(None, (name, variant)))!r}, and this Satchel has only "
            f"{', '.join(BACKENDS)}. Use the Satchel that built it, or a newer one."
        )
    return VARIANTS[name, variant] if variant else BACKENDS[name]


def write_slots(path: Path, artifact: str, plan: QuantPlan, slots: tuple[Slot, ...]) -> None:
    """slots.json: the plan, and where each tensor lies in the artifact."""
    entries = [
        {
            "tensor": slot.tensor,
            "part": slot.part,
            "packing": slot.packing,
            "shape": list(slot.shape),
            "offset": slot.offset,
            "bytes": slot.bytes,
        }
        for slot in slots
    ]
    path.write_bytes(canonical_json({"artifact": artifact, "plan": plan_to_json(plan), "slots": entries}))


def read_slots(path: Path) -> tuple[QuantPlan, tuple[Slot, ...]]:
    data = json.loads(path.read_text(encoding="utf-8"))
    slots = tuple(Slot(**{**entry, "shape": tuple(entry["shape"])}) for entry in data["slots"])
    return plan_from_json(data["plan"]), slots


_WORKING_MEMORY = 64 << 20  # activations, logits, the runtime itself


def memory_bytes(spec: ProgramSpec, program_bytes: int, cache_number_bytes: int) -> int:
    """What a device should have free: the program (runtimes pack its weights anew), the KV cache, and the rest.

    A prediction, so that the same inputs give the same manifest; the report has what was measured.
    """
    layers = int(spec.config["num_hidden_layers"])
    cache = 2 * layers * key_rows(spec.config) * spec.context_length * cache_number_bytes
    return program_bytes + cache + _WORKING_MEMORY


def manifest_of(
    checkpoint: Checkpoint, recipe: Recipe, backend: Backend, spec: ProgramSpec, verdict: Verdict, program_bytes: int
) -> Manifest:
    """The manifest without its artifacts, which `bundle.write_manifest` adds."""
    source, tokenizer = checkpoint.source, checkpoint.tokenizer
    return Manifest(
        model=BundledModel(
            id=checkpoint.model_id,
            architecture=str(checkpoint.config["architectures"][0]),
            license=source.license,
            source=Origin(source.kind, source.reference, source.revision, source.sha256),
        ),
        recipe=recipe.name,
        backend=backend.name,
        context_length=spec.context_length,
        prefill_chunk=spec.prefill_chunk,
        vocab_size=int(checkpoint.config["vocab_size"]),
        special_ids=SpecialIds(tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tuple(tokenizer.stop_ids)),
        generation_defaults=_generation_defaults(checkpoint.generation_config),
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


def gate_limits(gates: Gates | None) -> dict[str, float]:
    """The behaviour gates of a recipe as the manifest names them."""
    if gates is None:
        return {}
    top1 = {} if gates.top1_min is None else {"top1": gates.top1_min}
    return {"kl_mean": gates.kl_mean_max, **top1}


def _generation_defaults(config: Mapping[str, Any]) -> dict[str, float | int]:
    """What the source recommends; greedy unless it says that it samples."""
    sampled = bool(config.get("do_sample"))
    temperature = float(config.get("temperature") or 1.0) if sampled else 0.0
    return {"temperature": temperature, "max_new_tokens": 256}
