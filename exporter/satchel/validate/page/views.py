"""What stands in the page's tables: pure functions of report.json, for any number of backends, targets and tensors."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from satchel.console import size

Json = Mapping[str, Any]

_LABELS = {"executorch": "ExecuTorch", "litert": "LiteRT", "coreml": "Core ML"}
_HUES = 6  # colours the page's style has for backends
_GATES = {
    "kl_mean": "Mean KL divergence",
    "kl_p99": "99th percentile of KL",
    "top1": "Same most likely token",
    "ppl_ratio": "Perplexity, relative to the original's",
    "graph_max_abs": "Graph: largest difference of a logit",
    "size_off_prediction": "Size off its prediction",
}
_ROLES = {
    "program": "program",
    "litertlm": "the program packed for LiteRT-LM",
    "tokenizer": "tokenizer for devices",
    "tokenizer_json": "tokenizer",
    "prompt": "prompt program",
    "golden": "self-test of a device",
    "slots": "where each tensor lies",
    "library": "library",
}


@dataclass(frozen=True)
class Part:
    """One backend's part of the report. hue: index of its colour."""

    name: str
    label: str
    hue: int
    data: Json


def parts_of(report: Json) -> list[Part]:
    return [
        Part(name, _LABELS.get(name, name), index % _HUES, data)
        for index, (name, data) in enumerate(report["backends"].items())
    ]


# --- verdict ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PageVerdict:
    """status: "passed" | "failed" | "weights-only". sentences: why. warnings: what else a reader must know."""

    status: str
    title: str
    sentences: Sequence[str]
    warnings: Sequence[str]


def verdict(report: Json, parts: Sequence[Part]) -> PageVerdict:
    warnings = list(_other_targets(parts))
    if not report["passed"]:
        end = "A build that fails packages nothing and leaves the last good output alone."
        return PageVerdict("failed", "Failed", [*_failures(report, parts), end], warnings)
    unmeasured = [part.label for part in parts if part.data["verdict"] == "weights-only"]
    proven = (
        f"Every weight stored in {_listed([part.data['artifact'] for part in parts])} is the quantized model's, bit "
        "for bit, and the graph computes what the original's does."
    )
    if unmeasured:
        where = "" if len(unmeasured) == len(parts) else f" of {_listed(unmeasured)}"
        missing = (
            f"How close the answers{where} are to the original's was not measured: build without --no-validate, with "
            "PyTorch installed, or run satchel validate."
        )
        return PageVerdict("weights-only", "Weights proven, behaviour not measured", [proven, missing], warnings)
    return PageVerdict("passed", "Passed", [proven, _closeness(parts)], warnings)


def _closeness(parts: Sequence[Part]) -> str:
    data = [part.data for part in parts]
    tokens, top1 = _range(data, "tokens", ",.0f"), _range(data, "top1", ".1%")
    return (
        f"Over {tokens} positions of text that no step of the build has seen, the packaged model and the original find "
        f"the same token most likely {top1} of the time; the mean KL divergence is {_range(data, 'kl_mean', '.4f')} "
        "nats."
    )


def _failures(report: Json, parts: Sequence[Part]) -> Iterable[str]:
    for part in parts:
        for name, gate in part.data["gates"].items():
            if not gate["passed"]:
                yield f"{part.label}: {_told(name, gate)}."
        if not part.data["weights_equal"]:
            different = part.data["weights"]["different"]
            yield (
                f"{part.label}: {len(different)} of {part.data['weights']['tensors']} tensors read back from "
                f"{part.data['artifact']} differ from the quantized model's ({_listed(different[:3])}"
                f"{', …' if len(different) > 3 else ''})."
            )
    same = report["same_codes"]
    if same and same["different"]:
        yield f"{labels(same['backends'])} hold different codes of {_listed(same['different'][:3])}."


def _other_targets(parts: Sequence[Part]) -> Iterable[str]:
    """What failed on a target that the verdict is not about."""
    for part in parts:
        for target, figures in part.data["targets"].items():
            if target == part.data["target"]:
                continue
            for name, gate in figures["gates"].items():
                if not gate["passed"]:
                    yield f"{part.label} on {target}: {_told(name, gate)}."


def _told(name: str, gate: Json) -> str:
    value = "not a number" if gate["value"] is None else f"{gate['value']:.4g}"
    side = "at least" if gate["at_least"] else "at most"
    label = gate_label(name)
    return f"{label[0].lower()}{label[1:]} is {value} and must be {side} {gate['limit']:.4g}"


def gate_label(name: str) -> str:
    return _GATES.get(name, name)


# --- figures and gates ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meter:
    """A figure against its limit. fill, tick: percent of the meter's width."""

    limit: str
    passed: bool
    fill: float | None
    tick: float


@dataclass(frozen=True)
class Cell:
    """A figure, with its meter if there is a gate for it, else with a remark."""

    text: str
    meter: Meter | None = None
    remark: str = ""


@dataclass(frozen=True)
class Row:
    label: str
    hint: str
    cells: Sequence[Cell]


_FIGURES: Sequence[tuple[str, str, str]] = [  # name, what it means, format
    ("kl_mean", "nats between the distributions of the next token", ".4f"),
    ("kl_p99", "99 of 100 positions are closer", ".3f"),
    ("top1", "share of positions", ".1%"),
    ("ppl_ratio", "1 is equal", ".3f"),
    ("size_off_prediction", "of the plan's bytes", ".2%"),
    ("graph_max_abs", "architecture in float32 against Hugging Face's", ".1e"),
]


def gate_rows(parts: Sequence[Part]) -> list[Row]:
    """Every figure that has or could have a gate: one row each, one cell per backend."""
    known = [name for name, _, _ in _FIGURES]
    further = dict.fromkeys(name for part in parts for name in part.data["gates"] if name not in known)
    rows = [
        Row(gate_label(name), hint, [_gated(part.data, name, form) for part in parts])
        for name, hint, form in [*_FIGURES, *((name, "", ".4g") for name in further)]
    ]
    proof = [
        Cell(
            f"{data['weights']['tensors'] - len(data['weights']['different'])} of {data['weights']['tensors']}",
            Meter("all", data["weights_equal"], None, 0),
        )
        for data in (part.data for part in parts)
    ]
    speed = [
        Cell(
            figure(part.data["decode_tps"], ".0f"),
            remark=f"on {part.data['target']}" * (part.data["tokens"] is not None),
        )
        for part in parts
    ]
    return [
        *rows,
        Row("Tensors equal when read back", "codes, scales and offsets, bit for bit", proof),
        Row("Tokens per second", "decoding on the machine that measured, not on a phone", speed),
    ]


def _gated(data: Json, name: str, form: str) -> Cell:
    gate = data["gates"].get(name)
    value = data.get(name) if gate is None else gate["value"]
    if gate is None:
        return Cell(figure(value, form), remark="" if value is None else "no gate")
    limit, at_least = gate["limit"], gate["at_least"]
    full = max(value or 0.0, 1.0 if at_least else 1.25 * limit) or 1.0  # of the meter: what fills it
    shown = f"{'≥' if at_least else '≤'} {_limit(limit, form)}"
    fill = None if value is None else round(100 * value / full, 1)
    meter = Meter(shown, gate["passed"], fill, round(100 * limit / full, 1))
    return Cell("not a number" if value is None else figure(value, form), meter)


def _limit(limit: float, form: str) -> str:
    return f"{limit:.4g}" if not form.endswith("%") else f"{100 * limit:.4g}%"


# --- fidelity by text -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextRow:
    """cells: per backend its TextFigures as in report.json, or None if that text was not read there."""

    name: str
    tokens: int
    cells: Sequence[Json | None]


def measured(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.data["tokens"] is not None]


def text_rows(parts: Sequence[Part]) -> list[TextRow]:
    """One row per text, then one for all of them."""
    by_part = [{text["name"]: text for text in part.data["texts"]} for part in parts]
    names = dict.fromkeys(name for texts in by_part for name in texts)
    rows = [_text_row(name, [texts.get(name) for texts in by_part]) for name in names]
    return [*rows, _text_row("all", [part.data for part in parts])]


def _text_row(name: str, cells: Sequence[Json | None]) -> TextRow:
    return TextRow(name, next(cell["tokens"] for cell in cells if cell), cells)


def largest(rows: Sequence[TextRow], name: str) -> float:
    """The largest value of a figure in these rows, for bars."""
    return max((cell[name] or 0.0 for row in rows for cell in row.cells if cell), default=0.0) or 1.0


def drawn(parts: Sequence[Part]) -> list[Part]:
    """Those that have a histogram with anything in it."""
    return [part for part in parts if part.data["histogram"] and any(part.data["histogram"]["counts"])]


def histogram_top(parts: Sequence[Part]) -> float:
    """The largest share of positions in any bin of these parts' histograms."""
    counts = [part.data["histogram"]["counts"] for part in parts]
    return max((max(one) / sum(one) for one in counts), default=1.0)


def histogram_rows(parts: Sequence[Part]) -> list[tuple[str, Sequence[int]]]:
    """The bins as a table: where each lies in nats, and its positions per backend; empty ends are left out."""
    edges = parts[0].data["histogram"]["edges"]
    names = [f"below {edges[0]:g}", *(f"{low:g} to {high:g}" for low, high in pairwise(edges))]
    names.append(f"{edges[-1]:g} and more")
    counts = [[part.data["histogram"]["counts"][index] for part in parts] for index in range(len(names))]
    filled = [index for index, row in enumerate(counts) if any(row)]
    span = range(filled[0], filled[-1] + 1) if filled else range(0)
    return [(names[index], counts[index]) for index in span]


def visible(text: str) -> str:
    """A token as a reader can see it: line ends and tabs as signs, blanks at either end as open boxes."""
    shown = text.replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍")
    body = shown.strip(" ")
    if not body:
        return "␣" * len(shown)
    return "␣" * (len(shown) - len(shown.lstrip(" "))) + body + "␣" * (len(shown) - len(shown.rstrip(" ")))


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileRow:
    """owners: labels of the backends whose bundle has this very file."""

    file: str
    what: str
    bytes: int
    sha256: str
    owners: Sequence[str]
    detail: str = ""


def artifact_rows(report: Json, parts: Sequence[Part]) -> list[tuple[str, list[FileRow]]]:
    """(heading, files): programs with what is packed from them, then libraries."""
    programs = [
        _file_row(part, file, _stored(part.data) if file["role"] == "program" else "")
        for part in parts
        for file in part.data["files"]
        if file["role"] not in _BESIDES
    ]
    libraries = [
        FileRow(one["file"], _ROLES["library"], one["bytes"], one["sha256"], ["Android"]) for one in report["libraries"]
    ]
    groups = [("Programs", programs), ("Android libraries", libraries)]
    return [(heading, rows) for heading, rows in groups if rows]


def besides_rows(parts: Sequence[Part]) -> list[FileRow]:
    """The bundles' other files; one that several have with the same bytes, once."""
    found: dict[tuple[str, str], FileRow] = {}
    for part in parts:
        for file in part.data["files"]:
            if file["role"] in _BESIDES:
                row = _file_row(part, file)
                known = found.get((row.file, row.sha256))
                found[row.file, row.sha256] = replace(row, owners=[*known.owners, part.label]) if known else row
    return list(found.values())


def _file_row(part: Part, file: Json, detail: str = "") -> FileRow:
    role: str = file["role"]
    return FileRow(file["file"], _ROLES.get(role, role), file["bytes"], file["sha256"], [part.label], detail)


def _stored(data: Json) -> str:
    return f"{data['bits_per_weight']:.2f} bits per weight; the plan predicted {size(data['predicted_bytes'])}"


_BESIDES = ("tokenizer", "tokenizer_json", "prompt", "golden", "slots")


# --- targets, tools, reproduction -------------------------------------------------------------------------------------


def target_rows(parts: Sequence[Part]) -> list[tuple[Part, str, Json, list[tuple[str, bool]]]]:
    """(backend, target, its figures, gates as (text, passed)) for everything that was run."""
    return [
        (part, target, figures, [(_short(name, gate), gate["passed"]) for name, gate in figures["gates"].items()])
        for part in parts
        for target, figures in part.data["targets"].items()
    ]


def _short(name: str, gate: Json) -> str:
    names = {"kl_mean": "mean KL", "top1": "top-1", "kl_p99": "p99 KL", "ppl_ratio": "perplexity"}
    return f"{names.get(name, name)} {'≥' if gate['at_least'] else '≤'} {gate['limit']:.4g}"


def machines(parts: Sequence[Part]) -> list[tuple[str, list[str]]]:
    """(machine, what ran on it)."""
    ran: dict[str, list[str]] = {}
    for part, target, figures, _ in target_rows(parts):
        if figures["machine"]:
            ran.setdefault(figures["machine"], []).append(f"{part.label} on {target}")
    return list(ran.items())


def tool_rows(parts: Sequence[Part]) -> list[tuple[str, list[str]]]:
    """(tool, its version per backend)."""
    names = sorted({name for part in parts for name in part.data["tools"]}, key=str.lower)
    return [(name, [part.data["tools"].get(name, "") for part in parts]) for name in names]


def commands(parts: Sequence[Part]) -> list[str]:
    """What to type to get the same programs, each once."""
    return list(dict.fromkeys(shlex.join(part.data["command"]) for part in parts if part.data["command"]))


# --- words and numbers ------------------------------------------------------------------------------------------------


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(value: float | None, form: str = ".4f") -> str:
    """A dash if there is none; with a power of ten instead of an exponent."""
    if value is None:
        return "–"  # noqa: RUF001
    number, _, exponent = format(value, form).partition("e")
    return f"{number}\u00d710{str(int(exponent)).translate(_RAISED)}" if exponent else number


def _range(data: Sequence[Json], name: str, form: str) -> str:
    """The smallest and the largest of a figure, or the one if they look the same."""
    values = sorted(one[name] for one in data)
    low, high = format(values[0], form), format(values[-1], form)
    return low if low == high else f"{low} to {high}"


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} and {unique[-1]}"


def labels(names: Sequence[str]) -> str:
    """Backends by the names that people know."""
    return _listed([_LABELS.get(name, name) for name in names])
