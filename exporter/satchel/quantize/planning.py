"""From a Recipe and a Checkpoint to a QuantPlan, by where a tensor stands in the model, never by a family's name."""

import re

from satchel.errors import RecipeError, UnsupportedModelError
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.quantize.recipe import Recipe
from satchel.source.checkpoint import EMBEDDING, HEAD, Checkpoint, TensorInfo, is_tied

_LAYER_WEIGHT = re.compile(r"model\.layers\.\d+\..+\.weight")
_FLOAT = TensorPlan("float")


def plan_for(recipe: Recipe, checkpoint: Checkpoint) -> QuantPlan:
    """The plan of every tensor: two-dimensional weights inside the layers are linear, norms and biases stay float.

    Raises RecipeError if the recipe does not fit the model: a width that is no multiple of the group, or different
    plans for the two uses of a tied table.
    """
    tied = is_tied(checkpoint.config)
    if tied and recipe.embedding != recipe.head:
        raise RecipeError(
            f"{checkpoint.model_id} uses one table as embedding and head, but recipe {recipe.name} stores the "
            f"embedding as {recipe.embedding.scheme} and the head as {recipe.head.scheme}. Make them equal."
        )
    tensors = {name: _tensor_plan(recipe, info) for name, info in sorted(checkpoint.tensors.items())}
    return QuantPlan(tensors, tied)


def _tensor_plan(recipe: Recipe, info: TensorInfo) -> TensorPlan:
    if info.name == EMBEDDING:
        return recipe.embedding
    if info.name == HEAD:
        return recipe.head
    if len(info.shape) == 1:
        return _FLOAT
    if len(info.shape) != 2 or not _LAYER_WEIGHT.fullmatch(info.name):
        raise UnsupportedModelError(
            f"{info.name} has the shape {list(info.shape)} and is neither a linear layer, an embedding, a head, a norm "
            "nor a bias, so it can't be lowered."
        )
    if recipe.linear.scheme == "int4" and info.shape[1] % recipe.linear.group:
        raise RecipeError(
            f"{info.name} has {info.shape[1]} inputs, which groups of {recipe.linear.group} don't divide; "
            f"recipe {recipe.name} can't store it in 4 bits. Use --recipe int8."
        )
    return recipe.linear
