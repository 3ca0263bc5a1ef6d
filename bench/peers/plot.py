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


def draw(results: dict[str, Any], path: Path) -> None:
    """Only the peers whose fidelity was measured; decode speed with one thread."""
    peers = [peer for peer in PEERS if peer.key in results["closeness"]]
    style = {"svg.fonttype": "none", "svg.hashsalt": "satchel", "font.size": 9, "font.family": "sans-serif"}
    style |= {f"{part}.color": _INK for part in ("text", "xtick", "ytick")}
    style |= {"axes.labelcolor": _INK, "axes.edgecolor": _INK}
    with pyplot.rc_context(style):
        figure, (by_size, by_speed) = pyplot.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
        for peer in peers:
            color = _OURS if peer.ours else _OTHERS
            kl = results["closeness"][peer.key]["kl_mean"]
            size = results["bytes"][peer.file] / 1e6
            decode = spread(results, peer.key, 1, "decode_tps")
            by_size.plot(size, kl, "o", color=color)
            by_speed.errorbar(
                decode.median,
                kl,
                xerr=[[decode.median - decode.low], [decode.high - decode.median]],
                fmt="o",
                color=color,
                capsize=2,
            )
            for axes, x in ((by_size, size), (by_speed, decode.median)):
                axes.annotate(peer.key, (x, kl), textcoords="offset points", xytext=(0, 7), ha="center", color=color)
        by_size.set(xlabel="file, MB", ylabel="mean KL against float32, nats", xlim=(0, None), ylim=(0, None))
        by_speed.set(xlabel="decode, tokens/s with 1 thread", xlim=(0, None))
        for axes in (by_size, by_speed):
            axes.margins(0.2)
            axes.spines[["top", "right"]].set_visible(False)
            axes.patch.set_alpha(0)
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
