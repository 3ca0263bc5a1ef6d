"""The page's charts: small SVG drawings, one per program, 360 units wide so that they can be read on a phone.

Colours are classes of the page's style, so that they follow its light and dark scheme. Every chart has a title and a
description for who cannot see it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from satchel.report.page.tensors import KindRow
from satchel.report.page.words import plain

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH = 360
_LEFT, _RIGHT = 38, 6  # room for the labels of the vertical axis, and for the last one of the horizontal axis


def histogram(label: str, figures: Any, hue: int, top: float) -> "Markup":
    """How many positions have which KL, on a logarithmic axis; limit and mean as lines.

    label: the program's. figures: one target's of report.json. hue: index of its colour. top: the largest share of
    positions in any bin of the charts beside this one.
    """
    edges, counts = figures["histogram"]["edges"], figures["histogram"]["counts"]
    height, roof, floor = 202, 44, 168
    step = (WIDTH - _LEFT - _RIGHT) / len(counts)
    mean, gate = figures["kl_mean"], figures["gates"].get("kl_mean")
    limit = gate["limit"] if gate else math.inf
    above = [index > 0 and edges[index - 1] >= limit for index in range(len(counts))]
    parts = list(_grid(top, roof, floor, lambda share: f"{share:.0%}"))
    peak = counts.index(max(counts))
    for index, count in enumerate(counts):
        if count:
            x, rise = _LEFT + index * step, max(1.5, (floor - roof) * count / sum(counts) / top)
            parts.append(
                f'<rect class="b{hue}{" above" * above[index]}" x="{x + 0.75:.1f}" y="{floor - rise:.1f}" '
                f'width="{step - 1.5:.1f}" height="{rise:.1f}"/>'
            )
            if index > peak and rise < 8:  # of the tail, and too low to be judged by its height
                place = f'x="{x + step / 2:.1f}" y="{floor - rise - 3:.1f}"'
                parts.append(f'<text class="tiny" {place} text-anchor="middle">{count}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {floor}H{WIDTH - _RIGHT}"/>')
    for edge in edges:
        if f"{edge:e}".startswith("1.000000e"):  # a power of ten
            x = _LEFT + _place(edge, edges) * step
            parts.append(f'<path class="axis" d="M{x:.1f} {floor}v4"/>')
            parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{plain(edge)}</text>')
    told = f"{sum(counts)} positions"
    if gate:
        x = _LEFT + _place(limit, edges) * step
        parts += _marker("gate", x, 12, floor, f"limit of the mean {limit:g}", to_left=x > WIDTH * 0.55)
        beyond = sum(count for count, is_above in zip(counts, above, strict=True) if is_above)
        told += f", {beyond} of them in bins above the limit of the mean, {limit:g} nats"
    if mean is not None:
        x = _LEFT + _place(mean, edges) * step
        parts += _marker("mean", x, 27, floor, f"mean {mean:.4f}", to_left=mean <= limit or x > WIDTH * 0.8)
        told += f"; mean {mean:.4f} nats"
    if figures["kl_p99"] is not None:
        told += f", 99th percentile {figures['kl_p99']:.3f}"
    parts.append(f'<text class="unit" x="{WIDTH - _RIGHT}" y="{height - 1}" text-anchor="end">KL, nats</text>')
    return _svg(f"KL divergence of {label}, position by position", f"{told}.", height, parts)


def layers(label: str, stacks: Sequence[Sequence[int]], kinds: Sequence[KindRow], top: int) -> "Markup":
    """Bytes of every layer as stacked columns. stacks: per layer, bytes per kind; top: the largest layer of the charts
    beside this one, in bytes."""
    height, roof, floor = 182, 12, 148
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(stacks))
    gap = min(2.0, step / 5)
    scale = (floor - roof) / (top or 1)
    parts = list(_grid(top / 1e6, roof, floor, lambda megabytes: f"{megabytes:g}"))
    paths: list[list[str]] = [[] for _ in kinds]
    for index, stack in enumerate(stacks):
        x, y = _LEFT + index * step + gap / 2, float(floor)
        for kind, count in enumerate(stack):
            rise = count * scale
            if rise > 0:
                paths[kind].append(f"M{x:.1f} {y:.1f}h{step - gap:.1f}v{-rise:.1f}h{gap - step:.1f}z")
                y -= rise
    for row, path in zip(kinds, paths, strict=True):
        if path:
            parts.append(f'<path class="k{row.hue}" d="{"".join(path)}"/>')
    parts.append(f'<path class="axis" d="M{_LEFT} {floor}H{WIDTH - _RIGHT}"/>')
    every = next(every for every in (1, 2, 5, 10, 20, 50, 100) if len(stacks) / every <= 8)
    for index in range(0, len(stacks), every):
        parts.append(
            f'<text x="{_LEFT + (index + 0.5) * step:.1f}" y="{floor + 15}" text-anchor="middle">{index}</text>'
        )
    parts.append(f'<text class="unit" x="{_LEFT - 5}" y="{height - 1}" text-anchor="end">MB</text>')
    parts.append(f'<text class="unit" x="{WIDTH - _RIGHT}" y="{height - 1}" text-anchor="end">layer</text>')
    sums = [sum(stack) for stack in stacks]
    told = (
        f"{len(stacks)} layers of {min(sums, default=0) / 1e6:.2f} to {max(sums, default=0) / 1e6:.2f} MB. "
        f"Largest first in each: {', '.join(_by_size(stacks, kinds))}."
    )
    return _svg(f"Bytes of each layer in {label}", told, height, parts)


def _by_size(stacks: Sequence[Sequence[int]], kinds: Sequence[KindRow]) -> list[str]:
    totals = {kind.kind: sum(stack[index] for stack in stacks) for index, kind in enumerate(kinds)}
    return sorted((name for name, total in totals.items() if total), key=lambda name: -totals[name])


def _place(value: float, edges: Sequence[float]) -> float:
    """Where a value lies on the axis, in bins; the first bin is below the first edge, the last is not bounded."""
    if value <= edges[0]:
        return 1.0
    steps = math.log(value / edges[0]) / math.log(edges[1] / edges[0])
    return min(1 + steps, len(edges) + 0.5)


def _grid(top: float, roof: float, floor: float, label: Any) -> Iterable[str]:
    """Horizontal lines at round values up to `top`, which lies at the height `roof`."""
    step = _round_step(top)
    for index in range(1 + int(top / step + 1e-9)):
        y = floor - (floor - roof) * index * step / (top or 1)
        if index:
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
        yield f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{label(round(index * step, 10))}</text>'


def _round_step(top: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that goes two to five times into `top`."""
    if top <= 0:
        return 1.0
    power = 10.0 ** (len(f"{top:.12f}".split(".")[0]) + 1)
    while True:
        for factor in (5, 2, 1):
            if top / (factor * power) >= 2:
                return factor * power
        power /= 10


def _marker(name: str, x: float, y: float, floor: float, label: str, to_left: bool) -> list[str]:
    """A vertical line with its label at the height y, on its left or right."""
    anchor, shift = ("end", -4) if to_left else ("start", 4)
    return [
        f'<path class="{name}" d="M{x:.1f} {y - 8}V{floor}"/>',
        f'<text class="{name}-label" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{label}</text>',
    ]


def _svg(title: str, description: str, height: int, parts: Iterable[str]) -> "Markup":
    from markupsafe import Markup, escape

    head = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    return Markup(f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height}">{head}{"".join(parts)}</svg>')
