"""Checkpoint + QuantPlan -> QuantizedCheckpoint, kept in the cache."""

from pathlib import Path
from typing import Any

from satchel.console import Stage
from satchel.quantize.plan import QuantPlan
from satchel.quantize.quantize import quantize
from satchel.quantize.stored import StoredQuantizedCheckpoint, open_quantized
from satchel.source.checkpoint import Checkpoint
from satchel.versions import found_here, source_hash
from satchel.workshop import Workshop


def quantized(checkpoint: Checkpoint, plan: QuantPlan, workshop: Workshop) -> StoredQuantizedCheckpoint:
    """The QuantizedCheckpoint from the cache, else quantized now, tensor by tensor."""
    key = quantized_key(checkpoint, plan)
    with workshop.console.stage("Quantize") as stage:
        folder = workshop.cache.find("quantized", key)
        if folder is not None:
            stage.reused()
        else:
            folder = workshop.cache.get_or_build(
                "quantized", key, lambda attempt: _fill(checkpoint, plan, attempt, stage)
            )
        return open_quantized(folder)


def quantized_key(checkpoint: Checkpoint, plan: QuantPlan) -> dict[str, Any]:
    """What the codes depend on: the source, the plan, what reads and quantizes it."""
    return {
        "source": checkpoint.source.sha256,
        "plan": plan.to_json(),
        "tools": found_here("gguf", "ml_dtypes", "numpy"),
        "code": source_hash("quantize.quantize", "source.directory", "source.gguf.checkpoint"),
    }


def _fill(checkpoint: Checkpoint, plan: QuantPlan, folder: Path, stage: Stage) -> None:
    quantize(checkpoint, plan, folder, stage.progress)
