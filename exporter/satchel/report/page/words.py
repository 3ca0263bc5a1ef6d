"""How the page says things: names for what the report calls by key, figures, lists, and tokens that can be seen."""

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

LABELS = {"executorch": "ExecuTorch", "litert": "LiteRT", "coreml": "Core ML"}
_GATES = {
    "kl_mean": "Mean KL divergence",
    "kl_p99": "99th percentile of KL",
    "kl_worst_quarter": "Mean KL in the worst quarter of the context",
    "top1": "Same most likely token",
    "ppl_ratio": "Perplexity, relative to the original's",
    "graph_max_abs": "Graph: largest difference of a logit",
    "graph_relative": "Graph: largest difference of a logit, relative",
    "size_off_prediction": "Size off its prediction",
}
_SHARES = ("top1", "size_off_prediction")  # shown in percent
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(value: float | None, form: str = ".4f") -> str:
    """A dash if there is none; with a power of ten instead of an exponent."""
    if value is None:
        return "–"  # noqa: RUF001
    number, _, exponent = format(value, form).partition("e")
    if exponent and not float(number):
        return "0"
    return f"{number}\u00d710{str(int(exponent)).translate(_RAISED)}" if exponent else number


def quantity(name: str, value: float) -> str:
    """The value of the gate of that name, with as many digits as tell it from its limit."""
    return f"{100 * value:.4g}%" if name in _SHARES else f"{value:.4g}"


def plain(value: float) -> str:
    """Without an exponent: 0.00001, 10."""
    return f"{value:.12f}".rstrip("0").rstrip(".")


def span(data: Sequence[Json], name: str, form: str) -> str:
    """The smallest and the largest of a figure, or the one if they look the same."""
    values = sorted(one[name] for one in data if one[name] is not None)
    if not values:
        return "not a number"
    low, high = format(values[0], form), format(values[-1], form)
    return low if low == high else f"{low} to {high}"


def listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} and {unique[-1]}"


def labels(names: Sequence[str]) -> str:
    """Backends by the names that people know."""
    return listed([LABELS.get(name, name) for name in names])


def gate_label(name: str) -> str:
    return _GATES.get(name, name)


def visible(text: str) -> str:
    """A token as a reader can see it: line ends and tabs as signs, blanks at either end as open boxes."""
    shown = text.replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍")
    body = shown.strip(" ")
    if not body:
        return "␣" * len(shown)
    return "␣" * (len(shown) - len(shown.lstrip(" "))) + body + "␣" * (len(shown) - len(shown.rstrip(" ")))
