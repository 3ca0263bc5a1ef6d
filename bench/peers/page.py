"""Writes docs/benchmarks.md from the results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peers.roster import PEERS, Peer
from peers.spread import Spread

Results = Mapping[str, Any]

_REAL_TIME = (
    ". Other work ran on the machine; the measured processes had real-time priority over it (`chrt -r 1`), and so met "
    "it in caches and memory only"
)

_LLAMA = ("llama-native", "llama-node")


def write(results: Results, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text(results), encoding="utf-8")
    temporary.replace(path)


def text(results: Results) -> str:
    return (
        "\n\n".join(
            (
                "# Benchmarks\n\n<!-- Written by `make bench` (bench/compare.py); do not edit. -->",
                _introduction(results),
                "![Fidelity against size and against decode speed](benchmarks.svg)",
                "## Size and fidelity",
                _table(*_fidelity(results)),
                "## Speed and memory",
                *(
                    part
                    for threads in _threads(results)
                    for part in (_heading(threads), _table(*_speed(results, threads)))
                ),
                "## Against llama.cpp",
                _verdict(results),
                "## What was measured, and how",
                _method(results),
                "## What is not comparable",
                _reservations(results),
                "## Machine and versions",
                _machine(results),
            )
        )
        + "\n"
    )


def spread(results: Results, peer: str, threads: int, figure: str) -> Spread:
    """Of one figure of a peer, over the rounds."""
    return Spread.of(
        [record[figure] for record in results["speed"] if (record["peer"], record["threads"]) == (peer, threads)]
    )


def _introduction(results: Results) -> str:
    return (
        f"{results['model']}, recipe `{results['recipe']}`, as Satchel packs it, beside what one would pick instead. "
        "Everything runs on the CPU of one machine, in one go, each measurement in a process of its own and all "
        "programs in turn.\n\n"
        "```sh\nmake android && make bench\n```"
    )


# --- tables -----------------------------------------------------------------------------------------------------


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; every column but the first is aligned right."""
    marks = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, marks, *rows))


def _fidelity(results: Results) -> tuple[list[str], list[list[str]]]:
    rows = []
    for peer in PEERS:
        known = results["closeness"].get(peer.key)
        judged = [f"{known['kl_mean']:.4f}", f"{known['top1']:.3f}"] if known else ["as its `.tflite`"] * 2
        rows.append([_label(peer), f"{results['bytes'][peer.file] / 1e6:.1f}", *judged])
    return ["", "file MB", "mean KL, nats", "top-1"], rows


def _speed(results: Results, threads: int) -> tuple[list[str], list[list[str]]]:
    rows = []
    for peer in PEERS:

        def figure(name: str, digits: int = 0, peer: Peer = peer) -> str:
            return spread(results, peer.key, threads, name).text(digits)

        above = [
            record["peak_mb"] - record["bare_mb"]
            for record in results["speed"]
            if (record["peer"], record["threads"]) == (peer.key, threads)
        ]
        memory = [f"{spread(results, peer.key, threads, 'peak_mb').median:.0f}", f"{Spread.of(above).median:.0f}"]
        rows.append([_label(peer), figure("prefill_tps"), figure("decode_tps"), figure("load_s", 2), *memory])
    return ["", "prefill tokens/s", "decode tokens/s", "load s", "peak MB", "above bare"], rows


def _label(peer: Peer) -> str:
    return f"**{peer.label}**" if peer.ours else peer.label


def _heading(threads: int) -> str:
    return f"### {threads} thread{'s' if threads > 1 else ''}"


def _threads(results: Results) -> list[int]:
    return sorted({record["threads"] for record in results["speed"]})


# --- words ------------------------------------------------------------------------------------------------------


def _verdict(results: Results) -> str:
    """Each of ours against the faster build of llama.cpp, column by column: ratios of medians."""
    figures = [(name, threads) for threads in _threads(results) for name in ("prefill", "decode")]
    rows = []
    for peer in (peer for peer in PEERS if peer.ours):
        size = results["bytes"][peer.file] / results["bytes"]["gguf"]
        row = [peer.label, _ahead(size, size > 1)]
        for name, threads in figures:
            best = max(spread(results, other, threads, f"{name}_tps").median for other in _LLAMA)
            ratio = spread(results, peer.key, threads, f"{name}_tps").median / best
            row.append(_ahead(ratio, ratio < 1))
        rows.append(row)
    columns = ["", "file size", *(f"{name}, {threads} thread{'s' * (threads > 1)}" for name, threads in figures)]
    return (
        "Ratios of medians, each to the faster of the two builds of llama.cpp in that column. Bold: llama.cpp is "
        "ahead. Where the ranges in the tables above overlap, the difference is noise.\n\n" + _table(columns, rows)
    )


def _ahead(ratio: float, llama: bool) -> str:
    return f"**{ratio:.2f}**" if llama else f"{ratio:.2f}"


def _method(results: Results) -> str:
    tokens = results["tokens"]
    positions = max(known["positions"] for known in results["closeness"].values())
    return "\n".join(
        (
            f"- **Prompts**: the first {tokens['prompt']} tokens of the {tokens['prompts']} longest evaluation texts, "
            f"then their next {tokens['answer']} one by one, the same ids for all. Each "
            "process does them all and its best pass counts, since noise only slows. Every program reads a prompt in "
            "pieces of the length it was made for: 64 for Satchel's programs, 128 for LiteRT-LM's export, 512 for "
            "llama.cpp.",
            f"- **Rounds**: {results['rounds']}. In each, every program runs once per number of threads, in turn, so "
            "that a slow minute hits all alike. The tables give the median of the rounds and (least..greatest).",
            "- **Load**: from opening the file to the first token's logits, the file in the page cache, libraries "
            "loaded before.",
            "- **Memory**: the process' peak of resident memory, mapped weights included, in 10^6 bytes; and the same "
            "less that of the bare interpreter (Python with numpy, or Node). ExecuTorch's Python package brings "
            "PyTorch with it, which the C++ engine does not.",
            f"- **Fidelity**: as `make android` judges a bundle: teacher-forced over the same evaluation texts, "
            f"{positions} positions, token by token and in pieces of 64, against the float32 model in PyTorch with the "
            "GGUF's dequantized weights. For llama.cpp the float model is thus its own file's values: its KL is what "
            "its arithmetic costs, and ours what arithmetic and the transcoding cost together.",
        )
    )


def _reservations(results: Results) -> str:
    return "\n".join(
        (
            "- LiteRT-LM's engine is timed by the benchmark that comes with it, which makes up its token ids and loads "
            "weights that it repacked on an earlier start, so its load times are not those of a first start. It gives "
            "no logits; fidelity of its files is measured through CompiledModel.",
            "- node-llama-cpp's llama.cpp is of another day than llama-cpp-python's. Its speeds include a greedy "
            "choice and a crossing into JavaScript per token; its fidelity comes from the probabilities that it gives.",
            f"- Programs for LiteRT compute attention over all {results['context_length']} positions of the context "
            "whatever is filled, and XNNPACK repacks all keys and values for every token; the others read what is "
            "filled.",
            "- llama.cpp is compiled here by the Makefile with two of GCC's passes off, without which GCC 12's AMX "
            "code crashes, and both builds run with their own defaults: where they choose flash attention, it may not "
            "be the fastest for one token.",
            "- llama.cpp keeps keys and values in 16 bits, ours in 32.",
            "- llama.cpp's threads wait for one another by spinning. With as many threads as cores it slows down "
            "manifold as soon as anything else runs: look at the load below before reading its figures for all cores.",
            "- This is an x86 server: where a processor has AMX, llama.cpp uses it for prompts, and ExecuTorch's "
            "package has no kernels for it. Phones have none; which of these is ahead on one is not shown here.",
        )
    )


def _machine(results: Results) -> str:
    machine = results["machine"]
    before, after = (", ".join(f"{value:.2f}" for value in results[name]) for name in ("load_before", "load_after"))
    lines = [
        f"- {machine['processor']} ({machine['model']}), {machine['cores']} cores"
        f"{' of a virtual machine' if machine['virtual'] else ''}, {machine['memory_gb']} GB; "
        f"{', '.join(machine['features'])}",
        f"- {machine['system']}, Python {machine['python']}",
        f"- {results['date']}; the rounds took {results['seconds'] / 60:.0f} minutes. Load average over 1, 5 and 15 "
        f"minutes before: {before}; after: {after}"
        f"{_REAL_TIME if machine['real_time'] else ''}",
    ]
    lines += [f"- {about}" for about in dict.fromkeys(results["about"].values())]
    return "\n".join(lines)
