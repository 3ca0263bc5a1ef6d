"""Draws fidelity against size and against decode speed: `plot.py RESULTS PICTURE.svg`. Needs matplotlib."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from peers.page import spread
from peers.roster import PEERS

_INK = "#7d8590"  # readable on white and on black
_OURS, _OTHERS = "#2f81f7", "#d29922"
_SHAPES = "oDs^vP*X"


def draw(results: dict[str, Any], path: Path) -> None:
    """Only the peers whose fidelity was measured; decode speed with one thread, its bar from least to greatest."""
    style = {"svg.fonttype": "none", "svg.hashsalt": "satchel", "font.size": 9, "font.family": "sans-serif"}
    style |= {f"{part}.color": _INK for part in ("text", "xtick", "ytick")}
    style |= {"axes.labelcolor": _INK, "axes.edgecolor": _INK}
    with pyplot.rc_context(style):
        figure, (by_size, by_speed) = pyplot.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
        highest = 0.0
        for peer, shape in zip(PEERS, _SHAPES, strict=True):
            if peer.key not in results["closeness"]:
                continue
            look = {"marker": shape, "color": _OURS if peer.ours else _OTHERS, "linestyle": "none", "label": peer.label}
            kl = results["closeness"][peer.key]["kl_mean"]
            decode = spread(results, peer.key, 1, "decode_tps")
            by_size.plot(results["bytes"][peer.file] / 1e6, kl, alpha=0.8, **look)
            reach = [[decode.median - decode.low], [decode.high - decode.median]]
            by_speed.errorbar(decode.median, kl, xerr=reach, capsize=2, alpha=0.8, **look)
            highest = max(highest, kl)
        by_size.set(xlabel="file, MB", ylabel="mean KL against float32, nats", xlim=(0, None), ylim=(0, 1.15 * highest))
        by_speed.set(xlabel="decode, tokens/s with 1 thread", xlim=(0, None))
        for axes in (by_size, by_speed):
            axes.spines[["top", "right"]].set_visible(False)
        lines, labels = by_size.get_legend_handles_labels()
        labels = [label.replace("`", "") for label in labels]
        figure.legend(lines, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
