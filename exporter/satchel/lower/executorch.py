"""Lowers a decoder to an ExecuTorch program for XNNPACK: `forward(tokens, start_pos) -> logits`, KV cache inside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from satchel.formats import pte
from satchel.formats.pte_ids import BOS_MARKER, STOP_MARKERS, find_ids, tell_ids
from satchel.lower import executorch_patches
from satchel.lower.decoder import Decoder, build_model, head_dim, parameters
from satchel.lower.failures import converter_failures
from satchel.lower.placeholder import PlaceholderWeights
from satchel.lower.quantized import BlockSumsByLinear, install
from satchel.lower.rewrite import rewrite
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.quiet import quiet
from satchel.skeleton.spec import ProgramSpec
from satchel.skeleton.table import write_skeleton

BACKEND = "executorch"


class KVCache(nn.Module):
    """One layer's cache, float32 [1, context, kv_heads, dim], updated and attended to by ExecuTorch's LLM operators."""

    k: torch.Tensor
    v: torch.Tensor

    def __init__(self, context_length: int, kv_heads: int, dim: int) -> None:
        super().__init__()
        for name in ("k", "v"):
            self.register_buffer(name, torch.zeros(1, context_length, kv_heads, dim), persistent=False)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, position: Any, mask: Any, scale: float
    ) -> torch.Tensor:
        operators = torch.ops.llama
        operators.update_cache(key, self.k, position)
        operators.update_cache(value, self.v, position)
        # Without a mask the operator is causal from `position`; a sliding window's mask already is.
        attended = operators.custom_sdpa(query, self.k, self.v, position, mask, 0.0, mask is None, scale)
        return cast(torch.Tensor, attended)


def lower(
    spec: ProgramSpec, weights: QuantizedCheckpoint | None, *, dequantized: bool = False, fast: bool = True
) -> tuple[bytearray, PlaceholderWeights | QuantizedCheckpoint]:
    """The program (.pte bytes) with these weights, or with placeholders if None; and the weights used.

    One with placeholders has markers for the ids that it tells (satchel.formats.pte_ids).

    dequantized: see satchel.lower.quantized.install. fast: with the private patches (tests compare without).
    Raises LoweringError if the converter fails.
    """
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers torch.ops.llama

    model = build_model(spec.config)
    used = weights if weights is not None else PlaceholderWeights(spec.plan, parameters(model), {})
    install(model, used, BlockSumsByLinear, dequantized=dequantized)
    decoder = _decoder(model, spec.context_length)
    with converter_failures("ExecuTorch", spec), quiet():
        program = _to_program(_export(decoder, spec.prefill_chunk), _constant_methods(spec), fast)
    if weights is not None:
        tell_ids(program, spec.bos_id, spec.stop_ids)
    return program, used


def lower_dequantized(spec: ProgramSpec, weights: QuantizedCheckpoint) -> bytearray:
    """The program in the quantized decomposition, with float32 weights and activations: what a graph proof compares."""
    return lower(spec, weights, dequantized=True)[0]


def lower_skeleton(spec: ProgramSpec, folder: Path, proof: Mapping[str, Any]) -> None:
    """Lowers with placeholders, finds every slot by content and writes the Skeleton to `folder`."""
    program, placeholders = lower(spec, None)
    slots = pte.find_slots(program, placeholders, list(placeholders.names()))
    regions = pte.regions_with_keys(program)
    ids = find_ids(program)
    write_skeleton(folder, backend=BACKEND, program=program, slots=slots, regions=regions, proof=proof, ids=ids)


def _decoder(model: nn.Module, context_length: int) -> Decoder:
    config = cast(Any, model).config.get_text_config()
    cache = (context_length, config.num_key_value_heads, head_dim(config))
    caches = nn.ModuleList(KVCache(*cache) for _ in range(config.num_hidden_layers))
    return Decoder(model, caches, context_length).eval()


def _constant_methods(spec: ProgramSpec) -> dict[str, Any]:
    """Constants that ExecuTorch's own runners ask a program for, with markers for the ids."""
    return {
        "get_vocab_size": spec.config["vocab_size"],
        "get_max_context_len": spec.context_length,
        "get_max_seq_len": spec.prefill_chunk,
        "get_bos_id": BOS_MARKER,
        "get_eos_ids": list(STOP_MARKERS),
        "get_n_layers": spec.config["num_hidden_layers"],
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": True,
        "enable_dynamic_shape": True,
    }


def _export(decoder: Decoder, prefill_chunk: int) -> torch.export.ExportedProgram:
    example = (torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    tokens = torch.export.Dim("tokens", min=1, max=prefill_chunk)
    with torch.no_grad():
        return torch.export.export(decoder, example, dynamic_shapes=({1: tokens}, None), strict=False)


def _to_program(exported: torch.export.ExportedProgram, constant_methods: dict[str, Any], fast: bool) -> bytearray:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass
    from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass

    to_executorch = ExecutorchBackendConfig(
        extract_delegate_segments=True,
        do_quant_fusion_and_const_prop=True,
        memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
        sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass(),
    )
    rewritten = rewrite(exported)
    if fast:
        with executorch_patches.fast_lowering():
            edge = executorch_patches.to_edge_and_delegate(rewritten, constant_methods)
            return bytearray(edge.to_executorch(to_executorch).buffer)
    edge = to_edge_transform_and_lower(
        rewritten,
        partitioner=[XnnpackPartitioner()],
        constant_methods=constant_methods,
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
    )
    return bytearray(edge.to_executorch(to_executorch).buffer)
