"""quantize(): the QuantizedCheckpoint of a model, for a person or a script, without lowering anything."""

from collections import Counter
from pathlib import Path
from typing import Any

from satchel.console import Console
from satchel.files import assembled_folder, require_apart, require_replaceable
from satchel.quantize.planning import plan_for
from satchel.quantize.quantize import quantize as quantize_checkpoint
from satchel.quantize.recipe import load_recipe
from satchel.source.remembered import remembered_model
from satchel.workshop import Workshop


def quantize(name: str, recipe_name: str, out: Path, console: Console) -> dict[str, Any]:
    """MODEL -> the QuantizedCheckpoint in the folder `out`; returns what became of the tensors.

    Raises OutputError before any slow work if `out` has to do with the model's folder, or is not Satchel's to replace.
    """
    require_apart(out, name)
    require_replaceable(out)
    recipe = load_recipe(recipe_name)
    checkpoint = remembered_model(name, Workshop.default(console))
    plan = plan_for(recipe, checkpoint)
    with console.stage("Quantize") as stage, assembled_folder(out) as folder:
        weights = quantize_checkpoint(checkpoint, plan, folder, stage.progress)
        size = sum(file.stat().st_size for file in folder.iterdir())
    return {
        "model": checkpoint.model_id,
        "recipe": recipe.name,
        "sha256": weights.sha256,
        "bytes": size,
        "tensors": dict(Counter(weights.origin.values())),
    }
