"""What a worker process is asked for, and what it answers. Both travel as JSON files, so that a peer may be a program
in any language."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """file: the model's file. prompts, answers: token ids; an answer is fed token by token after its prompt.

    chunk: tokens per call when fidelity is measured. texts: an .npz of ids and float logits per text, or empty.
    libraries: folder of the host engine. packages: folder with node_modules. cache: where an engine may keep repacked
    weights.
    """

    file: str
    threads: int
    context_length: int
    chunk: int
    prompts: list[list[int]]
    answers: list[list[int]]
    texts: str
    libraries: str
    packages: str
    cache: str

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Job":
        data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**data)


@dataclass(frozen=True)
class Speed:
    """load_s: seconds from opening the file to the first token's logits, libraries loaded before. Tokens per second:
    the best pass of the process. peak_mb, bare_mb: resident memory in 10^6 bytes, the process' peak and that of its
    interpreter before the peer's libraries were loaded."""

    load_s: float
    prefill_tps: float
    decode_tps: float
    peak_mb: float
    bare_mb: float


@dataclass(frozen=True)
class Closeness:
    """Against the float model: mean KL in nats, share of positions with the same best token, number of positions."""

    kl_mean: float
    top1: float
    positions: int
