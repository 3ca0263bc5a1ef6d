"""Runs a .pte on this machine with ExecuTorch's own Python runtime and its official LLM operators."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BundleError, ToolMissingError
from satchel.quiet import captured_native_log, quiet

try:
    with quiet():
        import torch
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  llama::custom_sdpa, update_cache
        from executorch.kernels import quantized  # noqa: F401  int8 embedding
        from executorch.runtime import Runtime
except ImportError as error:
    raise ToolMissingError(
        f"Running a .pte needs ExecuTorch's Python package ({error}). Install the locked requirements: make venv"
    ) from error


class ExecuTorchEngine:
    """The Engine of one .pte. threads: size of the process-wide pool, None for ExecuTorch's default."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if threads is not None:
            _set_threads(threads)
        with captured_native_log() as log:
            try:
                self._program = Runtime.get().load_program(path)
                self._constant = {name: self._program.load_method(name) for name in _CONSTANTS}
                self._forward = self._program.load_method("forward")
            except RuntimeError as error:
                reason = f"{error}\n{log()}".rstrip()
                raise BundleError(f"ExecuTorch can't load {path.name}. Build the bundle again. {reason}") from error
        self.vocab_size = self._read("get_vocab_size")
        self.context_length = self._read("get_max_context_len")
        self.prefill_chunk = self._read("get_max_seq_len")

    def _read(self, name: str) -> int:
        method = self._constant[name]
        assert method is not None
        return int(method.execute([])[0])

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        assert self._forward is not None, "the engine is closed"
        token_tensor = torch.from_numpy(np.ascontiguousarray(tokens, np.int64)).reshape(1, -1)
        outputs = self._forward.execute([token_tensor, torch.tensor([position])])
        # The output is a view of memory that the next call overwrites.
        logits: NDArray[np.float32] = outputs[0].reshape(-1).numpy().copy()
        return logits

    def close(self) -> None:
        self._forward = None
        self._constant = {}
        self._program = None


_CONSTANTS = ("get_vocab_size", "get_max_context_len", "get_max_seq_len")


def _set_threads(threads: int) -> None:
    from executorch.extension.pybindings import portable_lib

    library: Any = portable_lib
    library._unsafe_reset_threadpool(threads)
    torch.set_num_threads(threads)  # the attention runs in PyTorch's threads: more or fewer slow it down manifold
