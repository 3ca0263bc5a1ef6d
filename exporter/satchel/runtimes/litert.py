"""Runs a .tflite on this machine with LiteRT's CompiledModel, the KV buffers passed as input and output in place."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BundleError, ToolMissingError
from satchel.quiet import captured_native_log, quiet

try:
    with quiet():
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.cpu_options import CpuOptions
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import Options
except ImportError as error:
    raise ToolMissingError(
        f"Running a .tflite needs LiteRT's Python package ({error}). Install the locked requirements: make venv"
    ) from error

_DECODE = "decode"
# Added to the scores of keys that a query must not see: small enough for a softmax of exactly 0, and the number that
# the Kotlin engine passes (LiteRtEngine.kt).
_HIDDEN = np.float32(-1e4)


class LiteRtEngine:
    """The Engine of one .tflite. threads: None for one per core up to two, which is where this machine's gain ends.

    Prefill takes a padded chunk and gives no logits, so the last token of every call goes through decode.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        cpu = CpuOptions(num_threads=threads or 2)
        with captured_native_log() as log:
            try:
                self._model: Any = CompiledModel.from_file(
                    str(path),
                    options=Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu),
                )
                details = self._model.get_input_tensor_details(_DECODE)
            except Exception as error:
                reason = f"{error}\n{log()}".rstrip()
                raise BundleError(f"LiteRT can't load {path.name}. Build the bundle again. {reason}") from error
            self._prefill = next(name for name in self._model.get_signature_list() if name.startswith("prefill"))
            shape = self._model.get_input_tensor_details(self._prefill)["tokens"]["shape"]
            self.prefill_chunk = int(shape[-1])
            self.context_length = int(details["mask"]["shape"][-1])
            self.vocab_size = int(self._model.get_output_tensor_details(_DECODE)["logits"]["shape"][-1])
            caches = {name: entry["shape"] for name, entry in details.items() if name.startswith("kv_cache")}
            self._cache = {name: self._model.create_input_buffer_by_name(_DECODE, name) for name in caches}
            for name, buffer in self._cache.items():
                buffer.write(np.zeros(caches[name], np.float32))
            self._inputs = {
                signature: {
                    name: self._model.create_input_buffer_by_name(signature, name)
                    for name in ("tokens", "input_pos", "mask")
                }
                for signature in (_DECODE, self._prefill)
            }
            self._logits = self._model.create_output_buffer_by_name(_DECODE, "logits")

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        body = len(tokens) - 1
        if body and position + self.prefill_chunk <= self.context_length:
            padded = np.zeros(self.prefill_chunk, np.int32)
            padded[:body] = tokens[:-1]
            self._run(self._prefill, padded, position, {})
        else:  # padding would reach past the context
            for index in range(body):
                self._run(_DECODE, tokens[index : index + 1], position + index, {"logits": self._logits})
        self._run(_DECODE, tokens[-1:], position + body, {"logits": self._logits})
        logits: NDArray[np.float32] = self._logits.read(self.vocab_size, np.float32).copy()
        return logits

    def _run(self, signature: str, tokens: NDArray[Any], position: int, outputs: dict[str, Any]) -> None:
        """Keys and values land in the cache at `position`; what padding writes is overwritten before it is seen."""
        inputs, count = self._inputs[signature], len(tokens)
        positions = np.arange(position, position + count, dtype=np.int32)
        visible = np.arange(self.context_length)[None, :] <= positions[:, None]
        inputs["tokens"].write(np.ascontiguousarray(tokens, np.int32).reshape(1, count))
        inputs["input_pos"].write(positions)
        mask = np.where(visible, np.float32(0), _HIDDEN).astype(np.float32)
        inputs["mask"].write(mask.reshape(1, 1, count, -1))
        self._model.run_by_name(signature, {**inputs, **self._cache}, {**self._cache, **outputs})

    def close(self) -> None:
        with captured_native_log():
            self._cache, self._inputs, self._logits, self._model = {}, {}, None, None
