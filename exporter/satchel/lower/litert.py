"""Lowers a decoder to a LiteRT program (.tflite) with litert-torch's Hugging Face export.

Two signatures share every weight: `prefill_<chunk>` fills the KV cache with a padded chunk and gives no logits,
`decode` takes one token. The export is float32, with the recipe's decomposition in it; `litert_types` then declares
the weights' real types, so that no converter ever sees (or changes) a code.
"""

import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from satchel.errors import LoweringError, SatchelError
from satchel.lower.decoder import build_model, parameters
from satchel.lower.placeholder import TiedPlaceholders
from satchel.lower.quantized import SummedOffsetLinear, float_weight, read_parameter, set_parameter
from satchel.lower.spec import ProgramSpec
from satchel.lower.tensorflow_shim import tensorflow_shim
from satchel.quantize.checkpoint import QuantizedCheckpoint
from satchel.quiet import quiet
from satchel.skeleton import write_skeleton

BACKEND = "litert"


def lower_skeleton(spec: ProgramSpec, folder: Path, proof: Mapping[str, Any]) -> None:
    """Lowers with placeholders, finds every slot by content and writes the Skeleton to `folder`."""
    from satchel.lower.litert_types import declare_types

    program, placeholders = lower_float(spec, None)
    typed, slots = declare_types(program, placeholders, list(spec.plan.tensors))
    write_skeleton(folder, backend=BACKEND, program=typed, slots=slots, regions=(), proof=proof)


def lower_float(spec: ProgramSpec, weights: QuantizedCheckpoint | None) -> tuple[bytes, Any]:
    """The float32 program with the decomposition of these weights (placeholders if None); and the weights used.

    Raises LoweringError if the converter fails.
    """
    try:
        # The exporter reports its own progress on both streams.
        with quiet(), redirect_stdout(StringIO()), redirect_stderr(StringIO()), tempfile.TemporaryDirectory() as work:
            return _export(spec, weights, Path(work))
    except SatchelError:
        raise
    except Exception as error:  # whatever a converter raises becomes one error with its cause attached
        raise LoweringError(f"litert-torch could not lower {spec.config.get('model_type')}: {error}") from error


def _export(spec: ProgramSpec, weights: QuantizedCheckpoint | None, work: Path) -> tuple[bytes, Any]:
    # In this order: litert-torch patches what transformers defines after it was imported.
    model: Any = build_model(spec.config)
    with tensorflow_shim():
        from litert_torch.generative.export_hf.core import export_lib
        from litert_torch.generative.export_hf.core.exportable_module_config import ExportableModuleConfig

    used = weights if weights is not None else TiedPlaceholders(spec.plan, parameters(model), {})
    install(model, used)
    model.tie_weights()  # one table, stored once
    model.generation_config.cache_implementation = "static"
    config = ExportableModuleConfig(
        model="",
        prefill_lengths=[spec.prefill_chunk],
        cache_length=spec.context_length,
        quantization_recipe=None,
        work_dir=str(work),
    )
    artifacts = export_lib.SourceModelArtifacts(
        model=model, model_config=model.config, text_model_config=model.config, tokenizer=_NoPadding()
    )
    config = export_lib.update_export_config(config, artifacts)
    exported = export_lib.export_text_prefill_decode_model(artifacts, config, export_lib.ExportedModelArtifacts())
    return Path(exported.prefill_decode_model_path).read_bytes(), used


class _NoPadding:
    """The exporter asks the tokenizer for a padding id only; positions past the chunk are masked by our runtime."""

    pad_token_id = None


def install(model: nn.Module, weights: QuantizedCheckpoint) -> None:
    """Replaces every parameter by float32: `scale * code`, and the offsets as a second linear over block sums."""
    for module_name, module in list(model.named_modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            tensor = read_parameter(weights, f"{module_name}.{name}", parameter)
            value = torch.from_numpy(tensor.values) if tensor.values is not None else float_weight(tensor)
            set_parameter(module, name, value)
            if tensor.offset is not None:
                assert isinstance(module, nn.Linear)
                parent, _, child = module_name.rpartition(".")
                offset = torch.from_numpy(tensor.offset)
                setattr(model.get_submodule(parent), child, SummedOffsetLinear(module, offset))
