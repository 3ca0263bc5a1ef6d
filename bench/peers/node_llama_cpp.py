"""The GGUF file through node-llama-cpp, as an Engine for measuring fidelity: a Node process that answers over a pipe.

Speed is measured inside Node (node_llama_cpp.mjs), without the pipe.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peers.job import Job

_SCRIPT = Path(__file__).with_suffix(".mjs")


def open_engine(job: Job) -> "NodeEngine":
    return NodeEngine(job)


class NodeEngine:
    """Its logits are the logarithms of the probabilities that node-llama-cpp gives: the same up to a constant."""

    def __init__(self, job: Job) -> None:
        command = ["node", str(_SCRIPT), "serve", job.packages, json.dumps({**vars(job), "texts": ""})]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.context_length = self.prefill_chunk = job.context_length
        self.vocab_size = int.from_bytes(self._read(4), "little")

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        assert self._process.stdin is not None
        request = json.dumps({"tokens": tokens.tolist(), "position": position})
        self._process.stdin.write(request.encode() + b"\n")
        self._process.stdin.flush()
        return np.frombuffer(self._read(4 * self.vocab_size), "<f4")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) != size:
            raise RuntimeError(f"Node ended with code {self._process.wait()}")
        return data
