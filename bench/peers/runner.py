"""Runs every measurement in a process of its own, one after another, all peers in turn."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peers.job import Job
from peers.roster import Peer

HERE = Path(__file__).resolve().parent
EXPORTER = HERE.parent.parent / "exporter"
_LIMIT_S = {"about": 60, "speed": 300, "closeness": 1800}


@dataclass(frozen=True)
class Interpreters:
    """product, bench: Pythons of the two environments. node: the folder with node_modules."""

    product: Path
    bench: Path
    node: Path

    def command(self, peer: Peer, task: str) -> list[str]:
        if peer.environment == "node" and task != "closeness":
            return ["node", str(HERE / "node_llama_cpp.mjs"), task, str(self.node)]
        python = self.bench if peer.environment == "bench" else self.product
        return [str(python), "-m", "peers.worker", task, peer.module]


def run(peer: Peer, task: str, job: Job, interpreters: Interpreters) -> Mapping[str, Any]:
    """The worker's answer. Raises RuntimeError with what the worker said if it failed."""
    with tempfile.TemporaryDirectory(prefix="satchel-bench-") as temporary:
        job_file, result = Path(temporary) / "job.json", Path(temporary) / "result.json"
        job.write(job_file)
        command = [*interpreters.command(peer, task), str(job_file), str(result)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (EXPORTER, HERE.parent)))}
        options: dict[str, Any] = {"env": environment, "capture_output": True, "text": True, "errors": "replace"}
        try:
            done = subprocess.run(command, timeout=_LIMIT_S[task], **options)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(
                f"{peer.label}: {task} took longer than {_LIMIT_S[task]} s: is the machine busy?"
            ) from error
        if done.returncode != 0 or not result.is_file():
            raise RuntimeError(f"{peer.label}: {task} ended with code {done.returncode}: {done.stderr[-2000:]}")
        answer: Mapping[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return answer


def rounds(
    peers: Sequence[Peer],
    jobs: Mapping[str, Job],
    threads: Sequence[int],
    count: int,
    interpreters: Interpreters,
    said: Callable[[str], None],
) -> list[dict[str, Any]]:
    """`count` rounds; in each, every peer once with every number of threads. One record per process.

    A run before them is not recorded: files come into the page cache, engines keep the weights that they repacked.
    """
    for peer in peers:
        said(f"once before the rounds: {peer.key}")
        run(peer, "speed", jobs[peer.key], interpreters)
    records = []
    for number in range(count):
        for used in threads:
            for peer in peers:
                speed = run(peer, "speed", replace(jobs[peer.key], threads=used), interpreters)
                said(
                    f"round {number + 1} of {count}, {used} threads, {peer.key}: "
                    f"prefill {speed['prefill_tps']:.0f}, decode {speed['decode_tps']:.1f} tokens/s"
                )
                records.append({"peer": peer.key, "threads": used, "round": number + 1, **speed})
    return records
