"""Lowers a decoder to a LiteRT program: the signatures `prefill_<chunk>` and `decode`, the KV cache handed in and out.

    tokens int32 [1, n], input_pos int32 [n], mask float32 [1, 1, n, context] added to the attention's logits,
    kv_cache_k_<layer> float32 [1, kv_heads, context, dim], kv_cache_v_<layer> float32 [1, kv_heads, dim, context]
    -> the same caches with the tokens' keys and values written from input_pos[0] on; decode also
       logits float32 [1, 1, vocab]

These names and shapes are what LiteRT-LM's engine looks for. The converter turns the model into float32 operations;
`litert_weights` then gives its weights their quantized types.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from satchel.formats import tflite
from satchel.lower.decoder import build_model, head_dim, last_logits, parameter_shapes
from satchel.lower.failures import converter_failures
from satchel.lower.litert_weights import with_quantized_weights
from satchel.lower.placeholder import TiedPlaceholders
from satchel.lower.quantized import BlockSums, install
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.quiet import captured_native_log, quiet
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import write_skeleton

BACKEND = "litert"


class Signature(nn.Module):
    """One signature of the program. gives_logits: whether it has them as an output; without, the head is left out."""

    def __init__(self, model: nn.Module, gives_logits: bool) -> None:
        super().__init__()
        self.model = model
        self.gives_logits = gives_logits
        self._call: _Call | None = None

    def forward(
        self, tokens: torch.Tensor, input_pos: torch.Tensor, mask: torch.Tensor, kv_cache: dict[str, torch.Tensor]
    ) -> dict[str, Any]:
        call = _Call(input_pos, mask, kv_cache)
        logits = last_logits(self.model, call, tokens, input_pos)
        outputs: dict[str, Any] = {"kv_cache": call.updated}
        return {**outputs, "logits": logits} if self.gives_logits else outputs


class _Call:
    """The attention of one call: writes each layer's keys and values into the caches that it was given."""

    def __init__(self, positions: torch.Tensor, mask: torch.Tensor, caches: Mapping[str, torch.Tensor]) -> None:
        self._positions, self._caches = positions, caches
        self._masks: dict[int | None, torch.Tensor] = {None: mask}
        self.updated: dict[str, torch.Tensor] = {}

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        start, zero = self._positions[0], torch.zeros((), dtype=torch.int32)
        operators = torch.ops.litert_torch
        keys = operators.dynamic_update_slice(self._caches[f"k_{layer}"], k, [zero, zero, start.clone(), zero])
        transposed = v.transpose(2, 3)
        values = operators.dynamic_update_slice(
            self._caches[f"v_{layer}"], transposed, [zero, zero, zero, start.clone()]
        )
        self.updated |= {f"k_{layer}": keys, f"v_{layer}": values}
        _, heads, n, dim = q.shape
        kv_heads = k.shape[1]
        # The query heads of one key head stand below one another as rows of one matrix.
        rows = (q * scale).reshape(1, kv_heads, heads // kv_heads * n, dim)
        mask = torch.cat([self._mask(window)] * (heads // kv_heads), dim=2)
        shares = torch.softmax(operators.bmm_4d(rows, keys) + mask, dim=-1)
        attended: torch.Tensor = operators.bmm_4d(shares, values).reshape(1, heads, n, dim)
        return attended.transpose(1, 2)

    def _mask(self, window: int | None) -> torch.Tensor:
        """The mask of the caller, and beyond a sliding window's reach as much again: float32 [1, 1, n, context]."""
        if window is not None and window >= self._masks[None].shape[-1]:
            window = None
        if window not in self._masks:
            assert window is not None
            given = self._masks[None]
            key = torch.arange(given.shape[-1], dtype=torch.float32)
            beyond = self._positions.float().reshape(1, 1, -1, 1) - key - (window - 1)
            self._masks[window] = given + torch.clamp(beyond, 0.0, 1.0) * _HIDDEN
        return self._masks[window]


# Added to the logit of a position beyond a sliding window: softmax gives it exactly 0. The program's own number; what
# a caller hides with is the caller's choice (satchel.runtimes.litert).
_HIDDEN = -1e9


def lower(spec: ProgramSpec, weights: QuantizedCheckpoint) -> bytearray:
    """The program (.tflite bytes) with these weights. Raises LoweringError if the converter fails."""
    return with_quantized_weights(lower_dequantized(spec, weights), weights, list(spec.plan.tensors))


def lower_dequantized(spec: ProgramSpec, weights: QuantizedCheckpoint) -> bytearray:
    """The program in the quantized decomposition, with float32 weights and activations: what a graph proof compares."""
    model = build_model(spec.config)
    install(model, weights, BlockSums, dequantized=True)
    if spec.plan.tied:
        cast(Any, model).get_output_embeddings().weight = cast(Any, model).get_input_embeddings().weight
    with converter_failures("LiteRT's converter", spec), quiet():
        return _convert(model, spec)


def lower_skeleton(spec: ProgramSpec, folder: Path, proof: Mapping[str, Any]) -> None:
    """Lowers with placeholders, finds every slot by content and writes the Skeleton to `folder`."""
    placeholders = TiedPlaceholders(spec.plan, parameter_shapes(spec.config), {})
    program = lower(spec, placeholders)
    slots = tflite.find_slots(program, placeholders, list(spec.plan.tensors))
    write_skeleton(folder, backend=BACKEND, program=program, slots=slots, regions=(), proof=proof)


def _convert(model: nn.Module, spec: ProgramSpec) -> bytearray:
    with captured_native_log():  # of the libraries that come with the converter
        from litert_torch._config import config
        from litert_torch._convert.interface import Converter
        from litert_torch.generative.custom_ops import bmm_4d, dynamic_update_slice  # noqa: F401  register operators

    config.show_progress = False
    converter = Converter()
    for name, n, gives_logits in ((f"prefill_{spec.prefill_chunk}", spec.prefill_chunk, False), ("decode", 1, True)):
        signature = Signature(model, gives_logits).eval()
        converter.add_signature(name, signature, sample_kwargs=_example(model, n, spec.context_length))
    with torch.no_grad():
        # Lightweight: constants stay PyTorch's until they are written, instead of being copied for every pass.
        converted: Any = converter.convert(lightweight_conversion=True)
    with captured_native_log():
        return bytearray(converted.model_content())


def _example(model: nn.Module, n: int, context_length: int) -> dict[str, Any]:
    """Inputs of n tokens, by name."""
    config = cast(Any, model).config.get_text_config()
    heads, dim = config.num_key_value_heads, head_dim(config)
    cache = {}
    for layer in range(config.num_hidden_layers):
        cache[f"k_{layer}"] = torch.zeros(1, heads, context_length, dim)
        cache[f"v_{layer}"] = torch.zeros(1, heads, dim, context_length)
    return {
        "tokens": torch.zeros(1, n, dtype=torch.int32),
        "input_pos": torch.zeros(n, dtype=torch.int32),
        "mask": torch.zeros(1, 1, n, context_length),
        "kv_cache": cache,
    }
