"""What stands in the page's tables: pure functions of report.json, for any number of backends, targets and tensors."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from satchel.console import size
from satchel.report.page.words import LABELS, Json, figure, gate_label, plain, quantity

_HUES = 6  # colours the page's style has for backends
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
    """Always in the same order and colours, whichever backend was built last."""
    known = list(LABELS)
    order = [*known, *sorted(name for name in report["backends"] if name not in known)]
    return [
        Part(name, LABELS.get(name, name), order.index(name) % _HUES, report["backends"][name])
        for name in order
        if name in report["backends"]
    ]


# --- figures and gates ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meter:
    """A figure against its limit. fill, tick: percent of the meter's width. bound: what was held against the limit, if
    that is not the figure itself."""

    limit: str
    passed: bool
    fill: float | None
    tick: float
    bound: str = ""


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
    ("kl_worst_quarter", "of a text that fills the context", ".4f"),
    ("kl_p99", "99 of 100 positions are closer", ".3f"),
    ("top1", "share of positions", ".1%"),
    ("ppl_ratio", "1 is equal", ".3f"),
    ("size_off_prediction", "of the plan's bytes", ".2%"),
    ("graph_relative", "of the largest; architecture in float32 against Hugging Face's", ".1e"),
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
    fill = None if value is None else round(100 * value / full, 1)
    shown = f"{'≥' if at_least else '≤'} {quantity(name, limit)}"
    exact = gate["bound"] is None or gate["bound"] == value
    bound = "" if exact else f"{quantity(name, gate['bound'])} with 95% confidence"
    meter = Meter(shown, gate["passed"], fill, round(100 * limit / full, 1), bound)
    if value is None:
        return Cell("not a number", meter)
    return Cell(figure(value, form) if gate["passed"] else quantity(name, value), meter)


# --- fidelity by text -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextRow:
    """cells: per backend its TextFigures as in report.json, or None if that text was not read there. bits: that the
    original needs for each byte of the text."""

    name: str
    tokens: int
    bits: float | None
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
    first = next(cell for cell in cells if cell)
    return TextRow(name, first["tokens"], first["reference_bits_per_byte"], cells)


@dataclass(frozen=True)
class StretchRow:
    """A stretch of the context: per backend its KL and the standard error of that, None where there is none."""

    name: str
    cells: Sequence[tuple[float | None, float | None]]


def quarter_rows(parts: Sequence[Part]) -> list[StretchRow]:
    names = ("first quarter", "second quarter", "third quarter", "last quarter")
    every = [
        list(zip(part.data["kl_by_quarter"], part.data["kl_by_quarter_standard_error"], strict=True)) for part in parts
    ]
    return [StretchRow(name, [cells[index] for cells in every]) for index, name in enumerate(names)]


def end_rows(parts: Sequence[Part]) -> list[StretchRow]:
    """The last positions of the context, one by one."""
    count = max(len(part.data["kl_at_end"]) for part in parts)
    names = [f"{left} before the end" if left else "the last one" for left in range(count - 1, -1, -1)]
    return [
        StretchRow(name, [(part.data["kl_at_end"][index], None) for part in parts]) for index, name in enumerate(names)
    ]


def highest(rows: Sequence[StretchRow]) -> float:
    """The largest KL in these rows, for bars."""
    return max((kl or 0.0 for row in rows for kl, _ in row.cells), default=0.0) or 1.0


def reach(parts: Sequence[Part]) -> list[Part]:
    """Those of which it was measured how they do through the context."""
    return [part for part in parts if part.data["kl_by_quarter"]]


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
    names = [f"below {plain(edges[0])}", *(f"{plain(low)} to {plain(high)}" for low, high in pairwise(edges))]
    names.append(f"{plain(edges[-1])} and more")
    counts = [[part.data["histogram"]["counts"][index] for part in parts] for index in range(len(names))]
    filled = [index for index, row in enumerate(counts) if any(row)]
    span = range(filled[0], filled[-1] + 1) if filled else range(0)
    return [(names[index], counts[index]) for index in span]


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
        for target, figures in sorted(
            part.data["targets"].items(), key=lambda item: (item[0] != part.data["target"], item[0])
        )
    ]


def _short(name: str, gate: Json) -> str:
    names = {
        "kl_mean": "mean KL",
        "kl_worst_quarter": "worst quarter",
        "top1": "top-1",
        "kl_p99": "p99 KL",
        "ppl_ratio": "perplexity",
    }
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
