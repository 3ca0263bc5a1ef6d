"""Keys of cached results know what these depend on: each input changes them, and nothing else does."""

import ast
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lock import LOCKS, lock_hashes
from satchel import versions
from satchel.backends.backend import Backend
from satchel.backends.registry import BACKENDS
from satchel.compile.assets import text_key
from satchel.package.android.sdk import sdk_key
from satchel.package.render import templates_root
from satchel.quantize.kept import quantized_key
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.quantize.planning import plan_for
from satchel.quantize.recipe import load_recipe
from satchel.reference.prompt import PromptProgram
from satchel.skeleton.spec import ProgramSpec
from satchel.source.directory import open_directory
from satchel.validate.expected import Expected
from satchel.validate.proofs import Program
from satchel.validate.readings import reading_key
from satchel.validate.reference_pass import expected_key
from satchel.validate.skeletons import skeleton_key
from satchel.validate.targets.host import behaviour_key
from satchel.validate.texts import Evaluation, Text


def texts(*ids: int) -> Evaluation:
    text = Text("t", np.array(ids, np.int64))
    return Evaluation((text,), text, text)


@dataclass(frozen=True)
class Made:
    """Everything that a key is made from."""

    checkpoint: Any
    plan: QuantPlan
    spec: ProgramSpec
    backend: Backend
    program: Path
    texts: Evaluation = field(default_factory=lambda: texts(1, 2, 3))
    limits: Mapping[str, float] = field(default_factory=lambda: {"kl_mean": 0.03})


ASSETS: Any = SimpleNamespace(program=PromptProgram("raw", {}), tokenizer_bytes=b"tokenizer")
KEYS: Mapping[str, Callable[[Made], Mapping[str, Any]]] = {
    "text": lambda made: text_key(made.checkpoint),
    "quantized": lambda made: quantized_key(made.checkpoint, made.plan),
    "skeleton": lambda made: skeleton_key(made.backend, made.spec),
    "behaviour": lambda made: behaviour_key(
        Program(made.program, made.backend, made.spec, made.checkpoint, None, None),  # type: ignore[arg-type]
        Expected(made.texts, {}, {}, np.zeros_like),
        made.limits,
    ),
    "reference": lambda made: expected_key(made.checkpoint, made.texts),
    "reading": lambda made: reading_key(made.checkpoint, made.checkpoint.place, ASSETS, (2,)),
    "sdk": lambda made: sdk_key(templates_root()),
}


@pytest.fixture
def made(make_directory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    checkpoint = open_directory(make_directory("tiny"))
    plan = plan_for(load_recipe("int4"), checkpoint)
    program = tmp_path / "model.pte"
    program.write_bytes(b"program")
    here = {
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "accelerate": "1",
        "safetensors": "1",
    }  # not installed where only the core is
    real = versions.metadata.version
    monkeypatch.setattr(versions.metadata, "version", lambda name: here.get(name) or real(name))
    return Made(checkpoint, plan, ProgramSpec.of(checkpoint, plan, 96, 64), BACKENDS["executorch"], program)


def keys(made: Made) -> dict[str, Mapping[str, Any]]:
    return {name: key(made) for name, key in KEYS.items()}


def changed(made: Made, before: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {name for name, key in keys(made).items() if key != before[name]}


def with_plan(made: Made) -> Made:
    first = next(iter(made.plan.tensors))
    plan = QuantPlan({**made.plan.tensors, first: TensorPlan("float")}, made.plan.tied)
    return replace(made, plan=plan, spec=replace(made.spec, plan=plan))


def with_checkpoint(made: Made, **values: Any) -> Made:
    checkpoint = copy.copy(made.checkpoint)
    vars(checkpoint).update(values)
    return replace(made, checkpoint=checkpoint)


def with_source(made: Made) -> Made:
    return with_checkpoint(made, source=replace(made.checkpoint.source, sha256="cd" * 32))


def with_template(made: Made) -> Made:
    template = "{{ messages[0].content }}"
    return with_checkpoint(made, tokenizer=replace(made.checkpoint.tokenizer, chat_template=template))


def with_spec(**values: Any) -> Callable[[Made], Made]:
    return lambda made: replace(made, spec=replace(made.spec, **values))


INPUTS: Mapping[str, tuple[Callable[[Made], Made], set[str]]] = {
    "the weights": (with_source, {"quantized", "behaviour", "reference", "reading"}),
    "the template": (with_template, {"text"}),
    "the plan": (with_plan, {"quantized", "skeleton"}),
    "the architecture": (with_spec(config={"model_type": "llama", "hidden_size": 1}), {"skeleton"}),
    "the context": (with_spec(context_length=97), {"skeleton"}),
    "the chunk": (with_spec(prefill_chunk=8), {"skeleton"}),
    "the backend": (lambda made: replace(made, backend=BACKENDS["litert"]), {"skeleton", "behaviour"}),
    "the texts": (lambda made: replace(made, texts=texts(1, 2, 4)), {"behaviour", "reference"}),
    "the limits": (lambda made: replace(made, limits={"kl_mean": 0.02}), {"behaviour"}),
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_changes_the_keys_of_what_is_made_from_it(made: Made, name: str) -> None:
    change, expected = INPUTS[name]
    before = keys(made)
    assert keys(made) == before
    assert changed(change(made), before) == expected


def test_the_program_itself_changes_its_measurement(made: Made) -> None:
    before = keys(made)
    made.program.write_bytes(b"another")
    assert changed(made, before) == {"behaviour"}


TOOLS = {
    "jinja2": {"text", "reading"},
    "regex": {"text"},
    "tokenizers": {"text", "reading"},
    "gguf": {"quantized", "reading"},
    "ml_dtypes": {"quantized", "reading"},
    "numpy": {"quantized", "reading"},
    "torch": {"behaviour", "reference", "reading"},
    "transformers": {"behaviour", "reference", "reading"},
}


@pytest.mark.parametrize("package", TOOLS)
def test_a_package_changes_the_keys_of_what_it_computes(
    made: Made, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    before, real = keys(made), versions.metadata.version
    monkeypatch.setattr(versions.metadata, "version", lambda name: "0.0.1" if name == package else real(name))
    assert changed(made, before) == TOOLS[package]


def test_the_lock_and_the_machine_change_the_keys(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(made)
    with monkeypatch.context() as patch:
        for module in ("skeletons", "targets.host"):
            patch.setattr(f"satchel.validate.{module}.locked", lambda _: "other")
        assert changed(made, before) == {"skeleton", "behaviour"}
    monkeypatch.setattr("satchel.validate.targets.host.processor", lambda: "another")
    assert changed(made, before) == {"behaviour"}
    monkeypatch.setattr("satchel.validate.reference_pass.processor", lambda: "another")
    assert changed(made, before) == {"behaviour", "reference"}


# A module of ours -> the keys that an edit of it must change, for ExecuTorch.
CODE = {
    "satchel.compile.automaton": {"text", "reading"},
    "satchel.compile.chat_template": {"text", "reading"},
    "satchel.quantize.grid": {"quantized"},
    "satchel.source.gguf.header": {"quantized", "reading"},
    "satchel.lower.executorch_patches": {"skeleton"},
    "satchel.lower.rewrite": {"skeleton"},
    "satchel.skeleton.table": {"skeleton"},
    "satchel.formats.flatbuffer": {"skeleton"},
    "satchel.validate.graph": {"skeleton"},
    "satchel.validate.reference": {"skeleton", "behaviour", "reference", "reading"},
    "satchel.validate.expected": {"behaviour", "reference"},
    "satchel.validate.judge": {"reading"},
    "satchel.runtimes.executorch": {"skeleton", "behaviour"},
    "satchel.validate.behaviour": {"behaviour"},
    "satchel.validate.speed": {"behaviour"},
    "satchel.package.archive": {"sdk"},
    # edits without effect on any of these results
    "satchel.runtimes.mil.evaluator": set(),
    "satchel.lower.litert": set(),
    "satchel.source.hub": set(),
    "satchel.report.page.charts": set(),
    "satchel.package.android.check": set(),
    "satchel.errors": set(),
    "satchel.console": set(),
    "satchel.cli": set(),
}


@pytest.mark.parametrize("module", CODE)
def test_an_edit_changes_the_keys_of_what_the_code_makes(
    made: Made, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    before, real = keys(made), versions._source
    source = real(module)
    assert source is not None
    monkeypatch.setattr(versions, "_source", lambda name: source + b"\n# edited\n" if name == module else real(name))
    assert changed(made, before) == CODE[module]


def test_core_mls_graph_proof_depends_on_the_evaluator(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    coreml = replace(made, backend=BACKENDS["coreml"])
    before, real = keys(coreml), versions._source
    edited = "satchel.runtimes.mil.elementwise"
    monkeypatch.setattr(versions, "_source", lambda name: b"edited = 1" if name == edited else real(name))
    assert changed(coreml, before) == {"skeleton", "behaviour"}


def test_every_import_of_ours_can_be_followed() -> None:
    """Relative imports, and those by a name made at run time, would not be seen."""
    for file in Path(versions.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), file
            assert not (isinstance(node, ast.Name | ast.Attribute) and "import_module" in ast.dump(node)), file


def test_the_hashes_of_the_locks_are_those_of_the_locks() -> None:
    assert LOCKS.read_text(encoding="utf-8") == lock_hashes(), "run scripts/lock.py"
