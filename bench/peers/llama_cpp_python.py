"""The GGUF file through llama.cpp, compiled on this machine for this machine: the C API that llama-cpp-python binds."""

import ctypes
from importlib.metadata import version

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from peers.job import Job

_BATCH = 512  # llama.cpp's own default for the tokens that it computes at once


def about() -> str:
    llama_cpp.llama_backend_init()
    system = llama_cpp.llama_print_system_info().decode()
    return f"llama-cpp-python {version('llama-cpp-python')}, compiled here; {system.strip(' |')}"


def open_engine(job: Job) -> "LlamaEngine":
    return LlamaEngine(job.file, job.threads, job.context_length)


class LlamaEngine:
    """An Engine over llama.cpp with its default options and no GPU."""

    prefill_chunk = _BATCH

    def __init__(self, file: str, threads: int, context_length: int) -> None:
        llama_cpp.llama_log_set(_no_log, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(file.encode(), options)
        context = llama_cpp.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_ubatch = context_length, _BATCH, _BATCH
        context.n_threads = context.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, context)
        if not self._model or not self._context:
            raise RuntimeError(f"llama.cpp can't load {file}")
        self.context_length = context_length
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        """The logits are overwritten by the next call."""
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_seq_rm(memory, 0, position, -1)
        ids = (llama_cpp.llama_token * len(tokens))(*tokens.tolist())
        if error := llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(ids, len(tokens))):
            raise RuntimeError(f"llama_decode failed with {error}")
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(logits, shape=(self.vocab_size,))

    def close(self) -> None:
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _no_log(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """llama.cpp's account of what it loads."""
