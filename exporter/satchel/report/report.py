"""report.json and report.html: what was proven about a build, with every figure that a gate looked at.

The structure of report.json is fixed (scripts read it): `passed`, and per backend the figures, gates and targets.
`passed` is true only if everything was proven and passed; null if nothing failed and behaviour was not measured. What
else stands there is for people. The page is made from report.json alone, so that both always say the same.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from satchel import __version__
from satchel.bundle.manifest import VerdictStatus
from satchel.files import canonical_json, write_file
from satchel.report.figures import UNMEASURED, Figures, Gate, Json, finite, gates_to_dict
from satchel.report.page import render_html
from satchel.report.reading import Reading
from satchel.source.checkpoint import Checkpoint

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
SCHEMA = 4  # of what report.json has beyond its fixed fields; a report of another one is not added to


@dataclass(frozen=True)
class TensorRecord:
    """What became of one tensor: stored as `scheme` ("int4 + offset", "int8", "float"), `origin` as in
    QuantizedCheckpoint ("transcoded", "requantized", "quantized", "float"), in `bytes` of the artifact."""

    name: str
    shape: tuple[int, ...]
    source_type: str  # Q4_1, BF16, ...
    scheme: str
    origin: str
    bytes: int


@dataclass(frozen=True)
class FileRecord:
    """A file of the bundle, or a library made from it."""

    role: str
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class BackendReport:
    """One backend's part. `gates` are those of the proofs (graph, size); `figures` bring behaviour's own.

    graph: the graph proof as the Skeleton keeps it; its `max_abs` is the largest difference of logits. difference:
    where the artifact is not its Skeleton though no weight lies there, in words; empty if nowhere. weights: per
    tensor, whether every code, scale and offset read back from the artifact equals the QuantizedCheckpoint. figures:
    None if behaviour was not measured. command: the arguments of the build, for doing it again.
    """

    artifact: str
    bytes: int
    sha256: str
    predicted_bytes: int
    bits_per_weight: float
    graph: Mapping[str, Any]
    weights: Mapping[str, bool]
    difference: str = ""
    target: str = "host"
    figures: Figures | None = None
    gates: Mapping[str, Gate] = field(default_factory=dict)
    files: tuple[FileRecord, ...] = ()
    tensors: tuple[TensorRecord, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def weights_equal(self) -> bool:
        return all(self.weights.values())

    @property
    def all_gates(self) -> dict[str, Gate]:
        return {**self.gates, **(self.figures.gates if self.figures else {})}

    @property
    def verdict(self) -> VerdictStatus:
        if self.failed_proofs:
            return "failed"
        return "passed" if self.figures else "weights-only"

    @property
    def failed_proofs(self) -> list[str]:
        """What failed, each with its value and limit."""
        failed = _failed(self.all_gates)
        if self.difference:
            failed.append(f"the program is not the one that was lowered and proven: {self.difference}")
        if not self.weights_equal:
            failed.append("weights read back from the artifact differ from the quantized ones")
        return failed

    @property
    def failed_gates_of_behaviour(self) -> list[str]:
        """Those of `failed_proofs` that another recipe may help against."""
        return _failed(self.figures.gates) if self.figures else []

    def to_dict(self) -> Json:
        figures = self.figures.to_dict() if self.figures else UNMEASURED
        return {
            "artifact": self.artifact,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "predicted_bytes": self.predicted_bytes,
            "bits_per_weight": self.bits_per_weight,
            "graph_max_abs": finite(self.graph["max_abs"]),
            "graph_relative": finite(self.graph["relative"]),
            "graph": {name: finite(value) for name, value in self.graph.items()},
            "skeleton_equal": not self.difference,
            "skeleton_difference": self.difference or None,
            "weights_equal": self.weights_equal,
            "weights": {
                "tensors": len(self.weights),
                "different": [name for name, equal in self.weights.items() if not equal],
            },
            **figures,
            "verdict": self.verdict,
            "gates": gates_to_dict(self.all_gates),
            "target": self.target,
            "targets": {self.target: self.figures.to_dict()} if self.figures else {},
            "files": [asdict(file) for file in self.files],
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "tools": dict(self.tools),
            "notes": list(self.notes),
            "command": list(self.command),
        }


def _failed(gates: Mapping[str, Gate]) -> list[str]:
    return [f"{name} is {gate.told}" for name, gate in gates.items() if not gate.passed]


@dataclass(frozen=True)
class SameCodes:
    """Which backends' programs were compared with one another, on how many tensors, and the names of those that
    differ."""

    backends: tuple[str, ...]
    tensors: int
    different: tuple[str, ...]

    @property
    def problem(self) -> str:
        """Empty if nothing differs."""
        if not self.different:
            return ""
        *others, last = self.backends
        return f"{', '.join(others)} and {last} differ in {', '.join(self.different[:3])}"


@dataclass(frozen=True)
class ReportHeader:
    """What the report is about."""

    model: str
    recipe: str
    source: str  # e.g. "gguf smollm2-135m-instruct 0.1.2"
    source_sha256: str  # content hash of config, tokenizer and weights
    license: str | None
    context_length: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, recipe: str, context_length: int) -> "ReportHeader":
        source = checkpoint.source
        named = " ".join(filter(None, (source.kind, source.reference, source.revision)))
        return cls(checkpoint.model_id, recipe, named, source.sha256, source.license, context_length)


def new_report(header: ReportHeader) -> Json:
    """A report without any backend yet."""
    empty: Json = {"backends": {}, "libraries": [], "same_codes": None, "next_recipe": None, "reading": None}
    return {"schema": SCHEMA, "passed": False, "satchel": __version__, **asdict(header), **empty}


def merged(report: Json, backend: str, part: BackendReport, libraries: Iterable[FileRecord] | None = None) -> Json:
    """`report` with this backend's part in place of its old one; other backends' parts stay.

    Figures of other targets stay only if they were measured on the same artifact. `libraries` replace the old ones.
    """
    new = part.to_dict()
    old = report["backends"].get(backend)
    if old is not None and old["sha256"] == part.sha256:
        new["targets"] = {**old["targets"], **new["targets"]}
    backends = {**report["backends"], backend: new}
    passed = _passed([one["verdict"] for one in backends.values()])
    kept = report["libraries"] if libraries is None else [asdict(library) for library in libraries]
    return {**report, "passed": passed, "backends": backends, "libraries": kept}


def _passed(verdicts: Iterable[VerdictStatus]) -> bool | None:
    found = set(verdicts)
    return False if "failed" in found else None if "weights-only" in found else True


def with_same_codes(report: Json, same: SameCodes | None) -> Json:
    """`report` with the comparison of its backends' programs with one another; None if there is nothing to compare."""
    passed = False if same and same.different else report["passed"]
    return {**report, "passed": passed, "same_codes": None if same is None else asdict(same)}


def with_reading(report: Json, reading: Reading) -> Json:
    """`report` with what somebody else's reading of the source showed."""
    return {**report, "reading": reading.to_dict()}


def read_report(folder: Path, header: ReportHeader) -> Json:
    """The report in `folder` if it is about the same model and recipe, else a new one."""
    try:
        found = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return new_report(header)
    expected = {"schema": SCHEMA, **asdict(header)}
    same = isinstance(found, dict) and all(found.get(name) == value for name, value in expected.items())
    return {**new_report(header), **found, "satchel": __version__} if same else new_report(header)


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write report.json and report.html into `folder`; returns the page's path. Each is written whole or not at all."""
    page, html = folder / REPORT_HTML, render_html(report)
    write_file(folder / REPORT_JSON, canonical_json(report))
    write_file(page, html.encode())
    return page
