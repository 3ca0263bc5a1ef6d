"""report.json and report.html: what was proven about a build, with every figure that a gate looked at.

The structure of report.json is fixed (scripts read it): `passed`, and per backend the figures, gates and targets. What
else stands there is for people. The page is made from report.json alone, so that both always say the same.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from satchel import __version__
from satchel.bundle import canonical_json

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"

Json = dict[str, Any]
Verdict = Literal["passed", "failed", "weights-only"]


@dataclass(frozen=True)
class Gate:
    """One figure and its limit. `at_least`: the figure must not be below the limit (else: not above)."""

    value: float
    limit: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """False for a figure that is not a number, whatever the limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_dict(self) -> Json:
        return {"value": _finite(self.value), "limit": self.limit, "passed": self.passed, "at_least": self.at_least}


@dataclass(frozen=True)
class TextFigures:
    """Fidelity on one evaluation text, teacher-forced against the float model.

    tokens: predicted positions. kl_mean, kl_p99: nats. top1: share of positions whose most likely token is the same.
    ppl_ratio: perplexity divided by the float model's.
    """

    name: str
    tokens: int
    kl_mean: float
    kl_p99: float
    top1: float
    ppl_ratio: float


@dataclass(frozen=True)
class Figures:
    """What one target (host, jvm, ...) measured over all texts. Speeds in tokens per second, times in seconds."""

    tokens: int
    kl_mean: float
    kl_p99: float
    top1: float
    ppl_ratio: float
    load_s: float
    prefill_tps: float
    decode_tps: float
    peak_rss_mb: float
    texts: tuple[TextFigures, ...] = ()
    gates: Mapping[str, Gate] = field(default_factory=dict)

    def to_dict(self) -> Json:
        values = {name: _finite(value) for name, value in vars(self).items() if name not in ("texts", "gates")}
        texts = [{name: _finite(value) for name, value in asdict(text).items()} for text in self.texts]
        return {**values, "texts": texts, "gates": _gates(self.gates)}


_UNMEASURED: Json = dict.fromkeys(
    ("tokens", "kl_mean", "kl_p99", "top1", "ppl_ratio", "load_s", "prefill_tps", "decode_tps", "peak_rss_mb")
)


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

    graph_max_abs: largest difference of logits in the graph proof. weights_equal: every code, scale and offset read
    back from the artifact equals the QuantizedCheckpoint. figures: None if behaviour was not measured.
    """

    artifact: str
    bytes: int
    sha256: str
    predicted_bytes: int
    bits_per_weight: float
    graph_max_abs: float
    weights_equal: bool
    target: str = "host"
    figures: Figures | None = None
    gates: Mapping[str, Gate] = field(default_factory=dict)
    files: tuple[FileRecord, ...] = ()
    tensors: tuple[TensorRecord, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def all_gates(self) -> dict[str, Gate]:
        return {**self.gates, **(self.figures.gates if self.figures else {})}

    @property
    def verdict(self) -> Verdict:
        if not self.weights_equal or not all(gate.passed for gate in self.all_gates.values()):
            return "failed"
        return "passed" if self.figures else "weights-only"

    def to_dict(self) -> Json:
        figures = self.figures.to_dict() if self.figures else {**_UNMEASURED, "texts": []}
        return {
            "artifact": self.artifact,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "predicted_bytes": self.predicted_bytes,
            "bits_per_weight": self.bits_per_weight,
            "graph_max_abs": _finite(self.graph_max_abs),
            "weights_equal": self.weights_equal,
            **figures,
            "verdict": self.verdict,
            "gates": _gates(self.all_gates),
            "target": self.target,
            "targets": {self.target: self.figures.to_dict()} if self.figures else {},
            "files": [asdict(file) for file in self.files],
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "tools": dict(self.tools),
            "notes": list(self.notes),
        }


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
        return f"{' and '.join(self.backends)} differ in {', '.join(self.different[:3])}" if self.different else ""


@dataclass(frozen=True)
class ReportHeader:
    """What the report is about."""

    model: str
    recipe: str
    source: str  # e.g. "gguf smollm2-135m-instruct 0.1.2"
    license: str | None
    context_length: int


def new_report(header: ReportHeader) -> Json:
    """A report without any backend yet."""
    empty: Json = {"backends": {}, "libraries": [], "same_codes": None}
    return {"passed": False, "satchel": __version__, **asdict(header), **empty}


def merged(report: Json, backend: str, part: BackendReport, libraries: Iterable[FileRecord] | None = None) -> Json:
    """`report` with this backend's part in place of its old one; other backends' parts stay.

    Figures of other targets stay only if they were measured on the same artifact. `libraries` replace the old ones.
    """
    new = part.to_dict()
    old = report["backends"].get(backend)
    if old is not None and old["sha256"] == part.sha256:
        new["targets"] = {**old["targets"], **new["targets"]}
    backends = {**report["backends"], backend: new}
    passed = all(one["verdict"] != "failed" for one in backends.values())
    kept = report["libraries"] if libraries is None else [asdict(library) for library in libraries]
    return {**report, "passed": passed, "backends": backends, "libraries": kept}


def with_same_codes(report: Json, same: SameCodes | None) -> Json:
    """`report` with the comparison of its backends' programs with one another; None if there is nothing to compare."""
    passed = report["passed"] and not (same and same.different)
    return {**report, "passed": passed, "same_codes": None if same is None else asdict(same)}


def read_report(folder: Path, header: ReportHeader) -> Json:
    """The report in `folder` if it is about the same model and recipe, else a new one."""
    try:
        found = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return new_report(header)
    same = isinstance(found, dict) and all(found.get(name) == value for name, value in asdict(header).items())
    return {**new_report(header), **found} if same else new_report(header)


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write report.json and report.html into `folder`; returns the page's path. Each is written whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / REPORT_JSON, canonical_json(report))
    page = folder / REPORT_HTML
    _write(page, render_html(report).encode())
    return page


def render_html(report: Mapping[str, Any]) -> str:
    """The page: one file, nothing loaded from elsewhere."""
    from jinja2 import Environment, StrictUndefined

    from satchel.console import size

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["size"] = size
    environment.filters["figure"] = _figure
    environment.filters["groups"] = _tensor_groups
    source = (resources.files("satchel.validate") / "report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source).render(report=report)


def _tensor_groups(tensors: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Tensors counted by what happened to them, largest first: source type, origin, scheme, count, bytes."""
    groups: dict[tuple[str, str, str], Json] = {}
    for tensor in tensors:
        key = (tensor["source_type"], tensor["origin"], tensor["scheme"])
        group = groups.setdefault(
            key, {"source_type": key[0], "origin": key[1], "scheme": key[2], "count": 0, "bytes": 0}
        )
        group["count"] += 1
        group["bytes"] += tensor["bytes"]
    return sorted(groups.values(), key=lambda group: -int(group["bytes"]))


def _figure(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else format(value, form)  # noqa: RUF001


def _gates(gates: Mapping[str, Gate]) -> Json:
    return {name: gate.to_dict() for name, gate in gates.items()}


def _finite(value: Any) -> Any:
    """None for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)
