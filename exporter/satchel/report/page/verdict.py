"""What the page says first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from satchel.report.page.views import Part
from satchel.report.page.words import Json, gate_label, labels, listed, quantity, span


@dataclass(frozen=True)
class PageVerdict:
    """status: "passed" | "failed" | "weights-only". sentences: why. warnings: what else a reader must know."""

    status: str
    title: str
    sentences: Sequence[str]
    warnings: Sequence[str]


def verdict(report: Json, parts: Sequence[Part]) -> PageVerdict:
    warnings = list(_other_targets(parts))
    if report["passed"] is False:
        end = "A build that fails packages nothing and leaves the last good output alone."
        advice = f" Try --recipe {report['next_recipe']}." if report["next_recipe"] else ""
        return PageVerdict("failed", "Failed", [*_failures(report, parts), end + advice], warnings)
    unmeasured = [part.label for part in parts if part.data["verdict"] == "weights-only"]
    proven = (
        f"Every weight stored in {listed([part.data['artifact'] for part in parts])} is the quantized model's, bit "
        "for bit, and the graph computes what the original's does."
    )
    if unmeasured:
        where = "" if len(unmeasured) == len(parts) else f" of {listed(unmeasured)}"
        missing = (
            f"How close the answers{where} are to the original's was not measured: build without --no-validate, with "
            "PyTorch installed, or run satchel validate."
        )
        return PageVerdict("weights-only", "Weights proven, behaviour not measured", [proven, missing], warnings)
    return PageVerdict("passed", "Passed", [proven, _closeness(parts)], warnings)


def _closeness(parts: Sequence[Part]) -> str:
    data = [part.data for part in parts]
    tokens, top1 = span(data, "tokens", ",.0f"), span(data, "top1", ".1%")
    return (
        f"Over {tokens} positions of held-out text, the packaged model and the original find the same token most "
        f"likely {top1} of the time; the mean KL divergence is {span(data, 'kl_mean', '.4f')} nats"
        f"{_errors(data)}."
    )


def _errors(data: Sequence[Json]) -> str:
    """How exact these means are, where more than one block of positions was measured."""
    if any(one["kl_standard_error"] is None or one["top1_standard_error"] is None for one in data):
        return ""
    kl, top1 = span(data, "kl_standard_error", ".4f"), span(data, "top1_standard_error", ".1%")
    return f" (standard errors: {top1} and {kl})"


def _failures(report: Json, parts: Sequence[Part]) -> Iterable[str]:
    for part in parts:
        for name, gate in part.data["gates"].items():
            if not gate["passed"]:
                yield f"{part.label}: {_told(name, gate)}."
        if part.data["skeleton_difference"]:
            yield f"{part.label}: not the program that was lowered and proven: {part.data['skeleton_difference']}."
        if not part.data["weights_equal"]:
            different = part.data["weights"]["different"]
            yield (
                f"{part.label}: {len(different)} of {part.data['weights']['tensors']} tensors read back from "
                f"{part.data['artifact']} differ from the quantized model's ({listed(different[:3])}"
                f"{', …' if len(different) > 3 else ''})."
            )
    same = report["same_codes"]
    if same and same["different"]:
        yield f"{labels(same['backends'])} hold different codes of {listed(same['different'][:3])}."


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
    value = "not a number" if gate["value"] is None else quantity(name, gate["value"])
    if gate["bound"] not in (None, gate["value"]):
        value += f" ({quantity(name, gate['bound'])} with 95% confidence)"
    side = "at least" if gate["at_least"] else "at most"
    label = gate_label(name)
    return f"{label[0].lower()}{label[1:]} is {value} and must be {side} {quantity(name, gate['limit'])}"
