"""Lowers a decoder to a Core ML program (ML Program, iOS 18): one function for prefill and decode, the cache a state.

    inputIds int32 [1, n], fullAttentionMask float16 [1, 1, n, end] added to the attention's logits
    keyCache, valueCache: states float16 [layers, kv_heads, context, dim], written from end - n to end
    -> logits float16 [1, 1, vocab] of the last token

These names and shapes are what swift-transformers' LanguageModel looks for (docs/coreml.md). n and end are any numbers
up to the context; the default of n is the recipe's prefill chunk. coremltools turns the traced model into operations;
`coreml_weights` then declares the quantized weights.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from satchel.formats import mlpackage, mlpackage_native
from satchel.lower.coreml_messages import unknown_messages
from satchel.lower.coreml_modules import make_safe_for_float16
from satchel.lower.decoder import build_model, head_dim, last_logits, parameter_shapes
from satchel.lower.failures import converter_failures
from satchel.lower.placeholder import TiedPlaceholders
from satchel.lower.quantized import BlockSums, install
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.quiet import quiet
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import write_skeleton

BACKEND = "coreml"


class StatefulDecoder(nn.Module):
    """forward(inputIds int32 [1, n], fullAttentionMask [1, 1, n, end]) -> logits [1, 1, vocab] of the last token."""

    def __init__(self, model: nn.Module, context_length: int) -> None:
        super().__init__()
        self.model = model
        config = cast(Any, model).config.get_text_config()
        shape = (config.num_hidden_layers, config.num_key_value_heads, context_length, head_dim(config))
        self.register_buffer("keyCache", torch.zeros(shape))
        self.register_buffer("valueCache", torch.zeros(shape))

    def forward(self, inputIds: torch.Tensor, fullAttentionMask: torch.Tensor) -> torch.Tensor:  # noqa: N803  an app's
        call = _Call(self, inputIds, fullAttentionMask)
        return last_logits(self.model, call, inputIds, call.positions)


@dataclass(frozen=True)
class OffsetsInside:
    """A QuantizedCheckpoint as float weights, where they have offsets, so that no linear of their own is made."""

    weights: QuantizedCheckpoint

    @property
    def plan(self) -> QuantPlan:
        return self.weights.plan

    @property
    def sha256(self) -> str:
        return self.weights.sha256

    @property
    def origin(self) -> Mapping[str, str]:
        return self.weights.origin

    def names(self) -> Iterator[str]:
        return self.weights.names()

    def read(self, name: str) -> QuantizedTensor:
        tensor = self.weights.read(name)
        if tensor.offset is None:
            return tensor
        return QuantizedTensor(TensorPlan("float"), values=mlpackage_native.native_weight(tensor))


class _Call:
    """The attention of one call: keys and values go into the states, queries look at the states up to their end."""

    def __init__(self, decoder: StatefulDecoder, tokens: torch.Tensor, mask: torch.Tensor) -> None:
        config = cast(Any, decoder.model).config.get_text_config()
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._keys, self._values = cast(torch.Tensor, decoder.keyCache), cast(torch.Tensor, decoder.valueCache)
        self._dim, self._context = head_dim(config), self._keys.shape[2]
        n, self._end = tokens.shape[1], mask.shape[3]
        self._start = self._end - n
        self.positions = torch.arange(n, dtype=torch.int32) + self._start
        self._masks: dict[int | None, torch.Tensor] = {None: mask}
        self._stacked: dict[int | None, torch.Tensor] = {}

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        start, end = self._start, self._end
        self._keys[layer : layer + 1, :, start:end, :] = k
        self._values[layer : layer + 1, :, start:end, :] = v
        keys, values = self._keys[layer : layer + 1, :, :end, :], self._values[layer : layer + 1, :, :end, :]
        factor = scale * self._dim**0.5  # the operator divides by the root of the dimension and knows no other scale
        if abs(factor - 1) > 1e-6:
            q = q * factor
        # The query heads of one key head stand below one another as rows of one matrix.
        rows = q.reshape(1, self._kv_heads, -1, self._dim)
        attended = functional.scaled_dot_product_attention(rows, keys, values, attn_mask=self._mask(window))
        return attended.reshape(1, self._heads, -1, self._dim).transpose(1, 2)

    def _mask(self, window: int | None) -> torch.Tensor:
        """The caller's mask, less what lies beyond a sliding window, for every query head of one key head:
        [1, 1, heads / kv_heads * n, end]."""
        if window is not None and window >= self._context:
            window = None
        if window not in self._masks:
            assert window is not None
            first = self.positions.reshape(1, 1, -1, 1) - (window - 1)
            beyond = torch.arange(self._end, dtype=torch.int32).reshape(1, 1, 1, -1) < first
            self._masks[window] = torch.where(beyond, mlpackage.HIDDEN, self._masks[None])
        if window not in self._stacked:
            self._stacked[window] = torch.cat([self._masks[window]] * (self._heads // self._kv_heads), dim=2)
        return self._stacked[window]


def lower(spec: ProgramSpec, weights: QuantizedCheckpoint, native_offset: bool = False) -> mlpackage.Files:
    """The files of the .mlpackage with these weights, everything in float16. Raises LoweringError.

    native_offset: block offsets inside the weights (mlpackage_native) instead of in linears of their own.
    """
    return _lower(spec, weights, native_offset, np.float16)


def lower_dequantized(spec: ProgramSpec, weights: QuantizedCheckpoint, native_offset: bool = False) -> mlpackage.Files:
    """The program in the quantized decomposition, with float32 weights and operations: what a graph proof compares.

    Core ML has no float32 states, so the KV cache stays float16 with casts around it.
    """
    return _lower(spec, weights, native_offset, np.float32)


def lower_skeleton(spec: ProgramSpec, folder: Path, proof: Mapping[str, Any], native_offset: bool = False) -> None:
    """Lowers with placeholders, finds every slot by content and writes the Skeleton to `folder`."""
    placeholders = TiedPlaceholders(spec.plan, parameter_shapes(spec.config), {})
    files = dict(lower(spec, placeholders, native_offset))
    find_slots = mlpackage_native.find_slots if native_offset else mlpackage.find_slots
    slots = find_slots(files, placeholders, list(spec.plan.tensors))
    program = bytearray(files.pop(mlpackage.WEIGHTS))
    write_skeleton(folder, backend=BACKEND, program=program, slots=slots, regions=(), proof=proof, beside=files)


def _lower(spec: ProgramSpec, weights: QuantizedCheckpoint, native_offset: bool, dtype: Any) -> mlpackage.Files:
    model = build_model(spec.config)
    install(model, OffsetsInside(weights) if native_offset else weights, BlockSums, dequantized=True)
    if spec.plan.tied:
        cast(Any, model).get_output_embeddings().weight = cast(Any, model).get_input_embeddings().weight
    make_safe_for_float16(model, spec.context_length)
    decoder = StatefulDecoder(model, spec.context_length).eval().requires_grad_(False)
    with converter_failures("coremltools", spec), quiet(), unknown_messages(), _no_progress_bars():
        passes = _last_passes(spec, weights, native_offset) if dtype == np.float16 else []
        return _convert(decoder, spec, dtype, passes)


def _last_passes(spec: ProgramSpec, weights: QuantizedCheckpoint, native_offset: bool) -> list[str]:
    from satchel.lower.coreml_weights import declarations, declare

    return [declare(declarations(weights, list(spec.plan.tensors), native_offset))]


def _convert(decoder: StatefulDecoder, spec: ProgramSpec, dtype: Any, passes: list[str]) -> mlpackage.Files:
    import coremltools as ct

    context, chunk = spec.context_length, spec.prefill_chunk
    n, end = ct.RangeDim(1, context, default=chunk), ct.RangeDim(1, context, default=chunk)
    cache = tuple(cast(torch.Tensor, decoder.keyCache).shape)
    pipeline = ct.PassPipeline()
    for name in passes:
        pipeline.append_pass(name)
    # Any lengths do, if no two of them are equal or 1.
    example = (torch.zeros(1, 5, dtype=torch.int32), torch.zeros(1, 1, 5, 9))
    with torch.no_grad(), _scalars_from_arrays(), tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / mlpackage.PROGRAM_FILE
        ct.convert(
            torch.jit.trace(decoder, example, check_trace=False),
            inputs=[
                ct.TensorType("inputIds", (1, n), np.int32),
                ct.TensorType("fullAttentionMask", (1, 1, n, end), dtype),
            ],
            outputs=[ct.TensorType("logits", dtype=dtype)],
            states=[
                ct.StateType(ct.TensorType(shape=cache, dtype=np.float16), name) for name in ("keyCache", "valueCache")
            ],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT16 if dtype == np.float16 else ct.precision.FLOAT32,
            pass_pipeline=pipeline,
            skip_model_load=True,
            package_dir=str(package),
        )
        return _files(package)


def _files(package: Path) -> mlpackage.Files:
    """What coremltools wrote, without what differs from run to run: ids in the manifest, the date, the torch build."""
    from coremltools.proto.Model_pb2 import Model

    model = Model.FromString((package / mlpackage.MODEL).read_bytes())
    for key in ("conversion_date", "source", "source_dialect"):
        model.description.metadata.userDefined.pop(f"com.github.apple.coremltools.{key}", None)
    return {
        mlpackage.MANIFEST: mlpackage.manifest(),
        mlpackage.MODEL: model.SerializeToString(deterministic=True),
        mlpackage.WEIGHTS: (package / mlpackage.WEIGHTS).read_bytes(),
    }


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Within the block coremltools draws no progress bars over ours."""
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.mil.passes import pass_pipeline

    bars = (ops._tqdm, pass_pipeline.tqdm)
    ops._tqdm, pass_pipeline.tqdm = (partial(bar, disable=True) for bar in bars)
    try:
        yield
    finally:
        ops._tqdm, pass_pipeline.tqdm = bars


@contextmanager
def _scalars_from_arrays() -> Iterator[None]:
    """Within the block coremltools 9.0 reads an int from an array of one number, which numpy 2.4 refuses."""
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.mil import Builder

    original = ops._cast

    def cast_scalar(context: Any, node: Any, dtype: type, dtype_name: str) -> None:
        value = context[node.inputs[0]].val
        if value is None or np.ndim(value) == 0:
            original(context, node, dtype, dtype_name)
        else:
            context.add(Builder.const(val=dtype(np.asarray(value).item()), name=node.name), node.name)

    ops._cast = cast_scalar
    try:
        yield
    finally:
        ops._cast = original
