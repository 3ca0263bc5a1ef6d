"""Recipes: the built-in ones say what the design says, and a wrong file is refused with the key named."""

from pathlib import Path

import pytest

from satchel.errors import RecipeError
from satchel.quantize.plan import TensorPlan
from satchel.quantize.recipe import DEFAULT_RECIPE, Gates, load_recipe, recipes

_INT4 = (Path(__file__).parents[2] / "data" / "int4-symmetric.toml").read_text()


def test_the_built_in_recipes() -> None:
    found = recipes()
    assert list(found) == ["int4", "float", "int8"]
    assert DEFAULT_RECIPE == "int4"
    assert found["int4"].linear == TensorPlan("int4", 32, offset=True)
    assert found["int4"].embedding == found["int4"].head == TensorPlan("int8")
    assert found["int8"].linear == TensorPlan("int8")
    assert found["float"].linear == found["float"].head == TensorPlan("float")
    int8_activations = dict.fromkeys(("executorch", "litert"), Gates(0.045, 0.84))
    assert found["int4"].gates == {**int8_activations, "coreml": Gates(0.005, 0.955)}
    assert found["int8"].gates == {**int8_activations, "coreml": Gates(0.015, 0.935)}
    assert found["float"].gates == dict.fromkeys(("executorch", "litert", "coreml"), Gates(0.001))
    assert [recipe.next for recipe in found.values()] == ["int8", None, "float"]
    assert {recipe.context_length for recipe in found.values()} == {2048}


def test_a_recipe_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(_INT4)
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert recipe.name == "int4-symmetric"
    assert recipe.linear == TensorPlan("int4", 32, offset=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "int4-symmetric"', 'name = "Int 4"', "'Int 4'"),
        ("context_length = 2048", "", "lacks the key 'context_length'"),
        ("context_length = 2048", "context_length = 0", "context_length is 0"),
        ("context_length = 2048", "context_length = true", "context_length in the recipe is True"),
        ("prefill_chunk = 64", "prefill_chunk = 4096", "prefill_chunk is 4096"),
        ("prefill_chunk = 64", "prefill_chunk = 64\nchunk = 3", "unknown key 'chunk'"),
        ('scheme = "int4"', 'scheme = "int5"', "int4, int8, float"),
        ("group = 32", "group = 48", "group .* is 48"),
        ("offset = false", 'offset = "no"', "offset .* is 'no'"),
        ("offset = false", "", "lacks the key 'offset'"),
        ('[weights.head]\nscheme = "int8"', '[weights.head]\nscheme = "int8"\ngroup = 32', "unknown key 'group'"),
        (
            '[weights.head]\nscheme = "int8"',
            '[weights.head]\nscheme = "int4"\ngroup = 32\noffset = true',
            "the head can be int8 or float",
        ),
        ("kl_mean_max = 0.045", "kl_mean_max = 0.0", "kl_mean_max is 0.0"),
        ("top1_min = 0.84", "top1_min = 88.0", "top1_min is 88.0"),
        ("top1_min = 0.84", "top5_min = 0.88", "unknown key 'top5_min'"),
        ("[gates.executorch]", "[gates.executorch", "not a TOML file"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in _INT4
    file = tmp_path / "wrong.toml"
    file.write_text(_INT4.replace(old, new))
    with pytest.raises(RecipeError, match=message) as refusal:
        load_recipe(str(file))
    assert "wrong.toml" in str(refusal.value)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'int3'.*int4, float, int8"):
        load_recipe("int3")
