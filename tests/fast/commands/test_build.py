"""What a build leaves behind, whatever happens to it.

Everything is real but what takes long: lowering writes a program that is only its weights, and measuring and packing
answer at once.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satchel.backends.backend import Backend
from satchel.backends.executorch import ExecuTorch
from satchel.backends.litert import LiteRt
from satchel.backends.registry import BACKENDS
from satchel.bundle.folder import Bundle, read_bundle, verify_bundle, write_manifest
from satchel.bundle.output import opened_output
from satchel.bundle.slots import write_slots
from satchel.cache import Cache
from satchel.commands import build as pipeline
from satchel.commands.build import BuildOptions, BuildResult
from satchel.compile.assets import TextAssets, text_assets
from satchel.compile.golden import TeacherForced
from satchel.console import Console
from satchel.errors import BundleError, GraphProofError, NonsenseError, OutputError, ToolMissingError, UsageError
from satchel.formats import pte
from satchel.formats.packing import PACKINGS
from satchel.package.android.libraries import Packaged
from satchel.package.android.maven import Coordinate
from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.plan import TensorPlan
from satchel.quantize.planning import plan_for
from satchel.quantize.recipe import load_recipe
from satchel.report.figures import Figures, Quarter
from satchel.report.reading import Reading
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import Slot, write_skeleton
from satchel.source.checkpoint import EMBEDDING, HEAD
from satchel.source.directory import open_directory
from satchel.tools import Tools
from satchel.validate.expected import Expected
from satchel.validate.measured import Behaviour, behaviour_gates
from satchel.validate.texts import Evaluation, Text
from satchel.workshop import Workshop
from tiny_model import TINY_CONFIG, random_weights, write_directory

SHAPES = {name: array.shape for name, array in random_weights(TINY_CONFIG).items()}
GRAPH = {"max_abs": 1e-6, "relative": 1e-7, "complete": True, "incomplete": ""}
RECIPE = Path(__file__).parents[2] / "data" / "int4-symmetric.toml"


@dataclass
class Factory:
    """Stands in for lowering, measuring and packing; the figures are what a test wants them to be."""

    model: Path
    out: Path
    kl_mean: float = 0.01
    top1: float = 0.95
    reference_bits: float = 1.0
    graph: Mapping[str, Any] = field(default_factory=lambda: GRAPH)
    proven: int = 0
    lowered: int = 0
    measured: int = 0
    packed: list[str] = field(default_factory=list)

    def build(self, console: list[str] | None = None, **options: Any) -> BuildResult:
        """console: takes the warnings."""
        quiet = Console.quiet()
        quiet.warn = (console if console is not None else []).append  # type: ignore[method-assign]
        return pipeline.build(
            BuildOptions(**{"model": str(self.model), "out": self.out, "context": 96, **options}), quiet
        )

    def lower(self, spec: ProgramSpec, folder: Path, proof: Mapping[str, Any]) -> None:
        self.lowered += 1
        program, slots = bytearray(), []
        for name in (*spec.plan.tensors, *([HEAD] if spec.plan.tied else [])):
            shape = SHAPES[EMBEDDING if name == HEAD else name]
            for part, packings, array in pte.parts(blank(spec.plan[name], shape)):
                packed = PACKINGS[packings[0]].pack(array)
                slots.append(Slot(name, part, packings[0], array.shape, len(program), len(packed)))
                program += packed
        write_skeleton(folder, backend="executorch", program=program, slots=slots, regions=[], proof=proof)

    def prove(self, *_: Any) -> Mapping[str, Any]:
        self.proven += 1
        return self.graph

    def measure(self, *arguments: Any) -> Behaviour:
        self.measured += 1
        limits: Mapping[str, float] = arguments[2]
        figures = Figures(
            tokens=4,
            kl_mean=self.kl_mean,
            kl_p99=self.kl_mean,
            top1=self.top1,
            ppl_ratio=1.0,
            load_s=0.1,
            prefill_tps=1.0,
            decode_tps=1.0,
            peak_rss_mb=1.0,
            kl_by_quarter=(Quarter(self.kl_mean, None),) * 4,
        )
        figures = replace(figures, gates=behaviour_gates(figures, limits))
        return Behaviour(figures, TeacherForced([1, 2], [-0.5], 0.1))

    def pack(self, bundles: Sequence[Bundle], destination: Path, *_: Any) -> list[Packaged]:
        """A "library" per bundle that holds the bundle's program."""
        self.packed = [bundle.manifest.backend for bundle in bundles]
        libraries = []
        destination.mkdir()
        for bundle in bundles:
            verify_bundle(bundle)
            name = bundle.manifest.library_name
            (destination / f"{name}.aar").write_bytes(bundle.file("program").read_bytes())
            coordinate = Coordinate("g.h", name, "1", "aar")
            libraries.append(Packaged(coordinate, destination / f"{name}.aar", 1, "ab" * 32, "executorch"))
        return libraries


def backend(lowering: Callable[..., None], name: str = "executorch", android_library: bool = True) -> Backend:
    """ExecuTorch's with another lowering, and without its runtime."""
    made = ExecuTorch()
    vars(made).update(name=name, android_library=android_library, lower=lowering, runtime=lambda: None)
    return made


def blank(plan: TensorPlan, shape: tuple[int, ...]) -> QuantizedTensor:
    """A tensor of zeros, stored as `plan` says."""
    if plan.scheme == "float":
        return QuantizedTensor(plan, values=np.zeros(shape, np.float32))
    codes = np.zeros(shape, np.int8)
    if plan.scheme == "int8":
        return QuantizedTensor(plan, codes=codes, scale=np.zeros(shape[0], np.float32))
    blocks = np.zeros((shape[0], shape[1] // plan.group), np.float32)
    return QuantizedTensor(plan, codes=codes, scale=blocks, offset=blocks if plan.offset else None)


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> TextAssets:
    """Compiled once: it takes a second."""
    folder = tmp_path_factory.mktemp("text")
    checkpoint = open_directory(write_directory(folder / "tiny", TINY_CONFIG, random_weights(TINY_CONFIG)))
    return text_assets(checkpoint, Workshop(Cache(folder / "cache"), Tools(), Console.quiet()))


@pytest.fixture
def factory(
    tmp_path: Path, make_directory: Callable[..., Path], assets: TextAssets, monkeypatch: pytest.MonkeyPatch
) -> Factory:
    made = Factory(make_directory("tiny"), tmp_path / "out")
    monkeypatch.setenv("SATCHEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pipeline, "BACKENDS", {"executorch": backend(made.lower)})
    monkeypatch.setattr(pipeline, "package_android", made.pack)
    monkeypatch.setattr(pipeline, "require_compiler", lambda *_: None)
    monkeypatch.setattr(Tools, "versions", lambda _: {})  # asks every program: half a second
    monkeypatch.setattr(pipeline, "require_pinned", lambda _: None)
    monkeypatch.setattr("satchel.validate.skeletons.graph_proof", made.prove)
    monkeypatch.setattr("satchel.validate.targets.host.found_here", lambda *_: {})  # no torch in this tier
    monkeypatch.setattr("satchel.validate.targets.host.measure", made.measure)
    monkeypatch.setattr(pipeline, "text_assets", lambda *_: assets)
    monkeypatch.setattr(pipeline, "checked_reading", lambda *_: Reading("somebody else", 1e-7, 3, True))
    has_reference(monkeypatch, True)
    text = Text("t", np.array([1, 2, 3, 4], np.int64))
    evaluation = Evaluation((text,), Text("whole", text.ids[:1]), text)

    def expected(*_: object) -> Expected:
        return Expected(
            evaluation, {}, {"t": made.reference_bits, "whole": 0.0}, lambda _: np.zeros((0, 0), np.float32)
        )

    monkeypatch.setattr(pipeline, "expected", expected)
    return made


def has_reference(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(pipeline, "has_reference", lambda: there)


def everything(folder: Path) -> dict[str, str]:
    """Every file and folder that a reader finds below: path -> sha256, or empty for a folder."""
    found = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != ".satchel"]
        found |= {str(Path(place, name).relative_to(folder)): "" for name in folders}
        for name in names:
            path = Path(place, name)
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def unfinished(folder: Path) -> list[Path]:
    """Hidden files and folders that no finished build leaves behind."""
    known = (".satchel", ".made-by-satchel.json")
    return [path for path in folder.rglob("*") if path.name.startswith(".") and path.name not in known]


def test_a_good_build_leaves_its_results_and_nothing_else(factory: Factory, tmp_path: Path) -> None:
    result = factory.build()
    assert result.failure == ""
    assert set(everything(factory.out)) >= {"bundle", "android/tiny-int4.aar", "report.json", "report.html"}
    assert {path.name for path in factory.out.iterdir() if path.name != ".satchel"} == {
        "bundle",
        "android",
        "report.json",
        "report.html",
    }
    bundle = read_bundle(factory.out / "bundle" / "executorch")
    verify_bundle(bundle)
    assert bundle.manifest.verdict.status == "passed"
    assert factory.packed == ["executorch"]
    assert not unfinished(tmp_path)
    again = everything(factory.out)
    factory.build()
    assert everything(factory.out) == again
    assert (factory.lowered, factory.measured) == (1, 1)


FAILURES: Mapping[str, tuple[Mapping[str, float], str]] = {
    "divergence": ({"kl_mean": 0.5}, "kl_mean is 0.5 and must be at most 0.045"),
    "agreement": ({"top1": 0.6}, "top1 is 0.6 and must be at least 0.84"),
    "no numbers": ({"kl_mean": math.nan, "top1": 0.0}, "kl_mean is nan and must be at most 0.045"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_gate_is_named_and_leaves_the_last_good_build(factory: Factory, tmp_path: Path, name: str) -> None:
    figures, said = FAILURES[name]
    factory.build()
    good = everything(factory.out)
    vars(factory).update(figures, packed=[])
    result = factory.build(recipe=str(RECIPE))
    assert said in result.failure
    assert "Recipe int4-symmetric" in result.failure
    assert result.failure.endswith("Try --recipe int4.")
    assert not result.gradle
    assert factory.packed == []
    rejected = factory.out / "rejected"
    assert read_bundle(rejected / "bundle" / "executorch").manifest.verdict.status == "failed"
    report = json.loads((rejected / "report.json").read_text())
    assert report["passed"] is False
    assert report["backends"]["executorch"]["verdict"] == "failed"
    assert "Try --recipe int4." in (rejected / "report.html").read_text()
    left = everything(factory.out)
    assert {path: digest for path, digest in left.items() if not path.startswith("rejected")} == good
    assert not unfinished(tmp_path)
    vars(factory).update(kl_mean=0.01, top1=0.95)
    assert factory.build().failure == ""  # the next good build takes the rejected one away
    assert not rejected.exists()


GRAPHS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "other logits": ({"relative": 0.01}, "its logits differ by 0.01 of the largest one, and at most 2e-05 is allowed"),
    "no numbers": ({"relative": math.nan}, "its logits differ by nan of the largest one"),
    "no slot": ({"complete": False, "incomplete": "byte 7, in a bias"}, "has no slot: byte 7, in a bias"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_failed_graph_proof_ends_the_build_before_anything_is_filled(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And the second time at once. No recipe is advised: none would help."""
    figures, said = GRAPHS[name]
    factory.build()
    good = everything(factory.out)
    vars(factory).update(graph={**GRAPH, **figures}, proven=0, lowered=0, measured=0)
    monkeypatch.setattr(pte, "fill", lambda *_: pytest.fail("filled"))
    for _ in range(2):
        with pytest.raises(GraphProofError) as failure:
            factory.build(context=64)
        assert failure.value.exit_code == 3
        assert said in str(failure.value)
        assert "--recipe" not in str(failure.value)
    assert (factory.proven, factory.lowered, factory.measured) == (1, 0, 0)
    assert everything(factory.out) == good


def test_a_failed_graph_proof_of_one_backend_fills_no_other(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {name: backend(factory.lower, name) for name in ("executorch", "litert")}
    monkeypatch.setattr(pipeline, "BACKENDS", both)
    graphs = iter([GRAPH, {**GRAPH, "relative": 0.01}])
    monkeypatch.setattr("satchel.validate.skeletons.graph_proof", lambda *_: next(graphs))
    monkeypatch.setattr(pte, "fill", lambda *_: pytest.fail("filled"))
    with pytest.raises(GraphProofError, match=r"litert: .* differ by 0\.01"):
        factory.build(backends=("executorch", "litert"))


def test_a_size_off_its_prediction_fails(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 100_000_000
    monkeypatch.setattr(pte, "predict_bytes", lambda *_: size)
    failure = factory.build().failure
    assert "size_off_prediction is 0.9" in failure
    assert "at most 0.03" in failure
    assert_no_recipe_is_advised(factory, failure)


def assert_no_recipe_is_advised(factory: Factory, failure: str) -> None:
    assert failure.startswith("A proof failed")
    assert "--recipe" not in failure
    assert json.loads((factory.out / "rejected" / "report.json").read_text())["next_recipe"] is None
    assert "Try --recipe" not in (factory.out / "rejected" / "report.html").read_text()


def test_a_wrong_weight_fails_even_without_measuring(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pte.fill

    def one_bit_off(skeleton: Any, weights: Any, path: Path) -> None:
        real(skeleton, weights, path)
        data = bytearray(path.read_bytes())
        data[skeleton.slots[3].offset] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(pte, "fill", one_bit_off)
    vars(factory).update(top1=0.1)  # which the wrong bit may have done
    failure = factory.build().failure
    assert "weights read back from the artifact differ" in failure
    assert_no_recipe_is_advised(factory, failure)
    assert "weights read back from the artifact differ" in factory.build(validate=False).failure
    assert read_bundle(factory.out / "rejected" / "bundle" / "executorch").manifest.verdict.status == "failed"
    assert not (factory.out / "bundle").exists()


@pytest.mark.parametrize("why", ["--no-validate", "no torch"])
def test_what_was_not_measured_is_not_called_passed(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "no torch":
        has_reference(monkeypatch, False)
    result = factory.build(validate=why == "no torch")
    assert result.failure == ""
    assert read_bundle(factory.out / "bundle" / "executorch").manifest.verdict.status == "weights-only"
    part = result.report["backends"]["executorch"]
    assert (part["verdict"], part["kl_mean"], part["weights_equal"]) == ("weights-only", None, True)
    assert result.report["passed"] is None
    assert json.loads((factory.out / "report.json").read_text())["passed"] is None


MOMENTS = [
    "satchel.quantize.kept.quantize",
    "lower",
    "satchel.formats.pte.fill",
    "satchel.formats.pte.read_back",
    "satchel.validate.targets.host.measure",
    "satchel.commands.assemble.build_golden",
    "satchel.commands.assemble.write_manifest",
    "satchel.commands.build.package_android",
]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("what", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("built_before", [False, True])
def test_a_build_that_breaks_off_leaves_everything_as_it_was(
    factory: Factory,
    make_directory: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    what: type[BaseException],
    built_before: bool,
) -> None:
    if built_before:
        factory.build()
    factory.model = make_directory("other", arrays=random_weights(TINY_CONFIG, seed=2))
    before = everything(factory.out) if built_before else {}

    def breaks(*arguments: Any, **_: Any) -> None:
        for argument in arguments:
            if isinstance(argument, Path) and ".building-" in str(argument):  # half of a result
                (argument / "half" if argument.is_dir() else argument).write_bytes(b"half")
        raise what

    with monkeypatch.context() as patch:
        if moment == "lower":
            patch.setattr(pipeline, "BACKENDS", {"executorch": backend(breaks)})
        else:
            patch.setattr(moment, breaks)
        with pytest.raises(what):
            factory.build(context=64)
    assert factory.out.exists() == built_before
    assert everything(factory.out) == before
    assert not unfinished(tmp_path)
    assert factory.build(context=64).failure == ""
    bundle = read_bundle(factory.out / "bundle" / "executorch")
    assert (bundle.manifest.model.id, bundle.manifest.context_length) == ("other", 64)
    assert not unfinished(tmp_path)


def test_a_missing_maven_is_said_before_the_model_is_opened(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from satchel.package.android.sdk import require_compiler

    def opened(*_: Any) -> None:
        raise AssertionError("slow work before a tool was found missing")

    monkeypatch.setattr(pipeline, "require_compiler", require_compiler)
    monkeypatch.setattr("satchel.source.remembered.open_model", opened)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="mvn"):
        factory.build()
    assert not factory.out.exists()


def test_a_missing_package_is_said_before_any_backend_is_lowered(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def require(name: str) -> None:
        if name == "litert":
            raise ToolMissingError("litert needs a package")

    both = {"executorch": backend(factory.lower), "litert": backend(factory.lower, "litert")}
    monkeypatch.setattr(pipeline, "BACKENDS", both)
    monkeypatch.setattr(pipeline, "require_pinned", require)
    with pytest.raises(ToolMissingError, match="litert"):
        factory.build(backends=("executorch", "litert"))
    assert factory.lowered == 0
    assert not factory.out.exists()


def test_a_known_skeleton_needs_no_packages(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ToolMissingError(name)

    factory.build()
    monkeypatch.setattr(pipeline, "require_pinned", missing)
    with pytest.raises(ToolMissingError):
        factory.build()  # measuring needs the runtime
    assert factory.build(validate=False).failure == ""
    has_reference(monkeypatch, False)
    assert factory.build().failure == ""


def add_bundle(out: Path, bundle: Bundle) -> Bundle:
    """Publishes a bundle of another backend the way a build would."""
    with opened_output(out) as output:
        shutil.copytree(bundle.path, output.work / "bundle" / bundle.manifest.backend)
        output.publish()
    return read_bundle(out / "bundle" / bundle.manifest.backend)


@pytest.fixture
def neighbour(factory: Factory, make_bundle: Callable[..., Bundle], tmp_path: Path) -> Callable[..., Bundle]:
    """neighbour(**changes): LiteRT's bundle of the factory's model, or of something else, in the output folder."""

    def add(**changes: Any) -> Bundle:
        checkpoint = open_directory(factory.model)
        values = {"model": "tiny", "backend": "litert", "context_length": 96, "sha256": checkpoint.source.sha256}
        bundle = make_bundle(tmp_path / "elsewhere", **{**values, **changes})
        plan = plan_for(load_recipe("int4"), checkpoint)
        write_slots(bundle.file("slots"), "model.tflite", plan, ())
        write_manifest(bundle.path, bundle.manifest, {one.role: one.file for one in bundle.manifest.artifacts})
        return add_bundle(factory.out, read_bundle(bundle.path))

    return add


@pytest.mark.parametrize("has_engine", [True, False])
def test_the_same_model_in_another_format_stays_and_is_packed_if_it_can_be(
    factory: Factory, neighbour: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, has_engine: bool
) -> None:
    other = LiteRt()
    vars(other).update(android_library=has_engine)
    monkeypatch.setattr("satchel.backends.registry.BACKENDS", {**BACKENDS, "litert": other})
    monkeypatch.setattr("satchel.validate.same_codes.compare", lambda _: None)
    before = everything(neighbour().path)
    factory.build()
    assert factory.packed == (["executorch", "litert"] if has_engine else ["executorch"])
    assert everything(factory.out / "bundle" / "litert") == before


@pytest.mark.parametrize(
    "changes", [{"sha256": "ab" * 32}, {"recipe": "int8"}, {"context_length": 2048}], ids=["model", "recipe", "context"]
)
def test_another_models_bundle_stays_and_is_not_packed(
    factory: Factory, neighbour: Callable[..., Bundle], changes: Mapping[str, Any]
) -> None:
    before = everything(neighbour(**changes).path)
    said: list[str] = []
    factory.build(console=said)
    assert factory.packed == ["executorch"]
    assert everything(factory.out / "bundle" / "litert") == before
    (line,) = said
    assert f"{factory.out}/bundle/litert (tiny, " in line
    assert "not packed" in line


@pytest.mark.parametrize("damage", ["a byte", "the manifest"])
def test_a_damaged_neighbour_is_found_before_slow_work(
    factory: Factory, neighbour: Callable[..., Bundle], damage: str
) -> None:
    bundle = neighbour()
    if damage == "a byte":
        content = bytearray(bundle.file("program").read_bytes())
        content[7] ^= 1
        bundle.file("program").write_bytes(content)
    else:
        (bundle.path / "manifest.json").write_text("{")
    before = everything(factory.out)
    with pytest.raises(BundleError, match=str(bundle.path)):
        factory.build()
    assert factory.lowered == 0
    assert everything(factory.out) == before


@pytest.mark.parametrize("file", ["android/app/build.gradle", "bundle/executorch/mine", "rejected/thesis.txt"])
def test_a_users_files_are_found_before_slow_work_and_stay(factory: Factory, file: str) -> None:
    (factory.out / file).parent.mkdir(parents=True)
    (factory.out / file).write_text("mine")
    before = everything(factory.out)
    with pytest.raises(OutputError, match=file.split("/")[0]):
        factory.build()
    assert factory.lowered == 0
    assert everything(factory.out) == before


def test_the_models_folder_is_no_output(factory: Factory) -> None:
    before = everything(factory.model)
    for out in (factory.model, factory.model / "build", factory.model.parent):
        with pytest.raises(OutputError, match="the model's folder"):
            factory.build(out=out)
    assert everything(factory.model) == before


def test_a_library_of_another_platforms_build_stays_in_the_report(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = factory.build().report["libraries"]
    assert [library["file"] for library in libraries] == ["g.h:tiny-int4:1"]
    ios = backend(factory.lower, android_library=False)
    monkeypatch.setattr(pipeline, "BACKENDS", {"executorch": ios})
    assert factory.build().report["libraries"] == libraries
    assert (factory.out / "android" / "tiny-int4.aar").is_file()


def test_a_chunk_is_never_longer_than_the_context(factory: Factory) -> None:
    factory.build(context=40)
    manifest = read_bundle(factory.out / "bundle" / "executorch").manifest
    assert manifest.context_length == 40
    assert 1 < manifest.prefill_chunk < 40
    with pytest.raises(UsageError, match="31 tokens is too short to prove: use 32"):
        factory.build(context=31)


def test_the_lines_to_paste_name_the_repository_from_anywhere(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "\n".join(factory.build(out=Path("out")).gradle)
    assert f'uri("{(tmp_path / "out" / "android" / "maven").as_posix()}")' in lines
    assert 'implementation("g.h:tiny-int4:1")' in lines


def test_a_model_that_talks_nonsense_is_refused_before_slow_work(factory: Factory) -> None:
    """A model that only knows how often each of three tokens occurs needs 4.75 bits for them."""
    factory.reference_bits = 4.6
    with pytest.raises(NonsenseError, match="97%"):
        factory.build()
    assert factory.lowered == 0
    assert not factory.out.exists()


def test_a_model_that_predicts_text_badly_is_built_with_a_warning(factory: Factory) -> None:
    factory.reference_bits = 3.9
    warnings: list[str] = []
    factory.build(warnings)
    assert any("82%" in warning for warning in warnings)
