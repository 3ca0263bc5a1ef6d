"""The canonical config held against transformers' own classes: the same settings, and all that a class looks at."""

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from published_configs import PUBLISHED, SAVED
from satchel.source.architectures import BY_MODEL_TYPE
from satchel.source.support import checked_config
from satchel.source.tensors import expected_tensors

# What a config says of the text, of training and of how a class is loaded.
_NO_GRAPH = {
    *("architectures", "bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "dtype", "use_cache"),
    *("attention_dropout", "initializer_range", "pretraining_tp", "_name_or_path", "max_window_layers"),
    *("cache_implementation", "rope_interleaved", "is_llama_config", "use_mrope", "_sliding_window_pattern"),
    *("sliding_window_pattern", "rope_local_base_freq", "unsloth_version", "attn_implementation", "torch_dtype"),
}
# What the modelling code reads besides: refused where it is set, or of other parts than the decoder.
_READ_BESIDES = {
    *("_attn_implementation", "attention_dropout", "pad_token_id", "use_cache", "get_text_config"),
    *("attn_logit_softcapping", "use_bidirectional_attention"),
    *("text_config", "vision_config", "image_token_id", "mm_tokens_per_image"),
}


def of_class(config: dict[str, Any]) -> dict[str, Any]:
    """Every setting of transformers' config class."""
    from transformers import AutoConfig

    values = dict(config)
    found: dict[str, Any] = AutoConfig.for_model(values.pop("model_type"), **values).to_dict()
    return found


@pytest.mark.parametrize("form", [PUBLISHED, SAVED], ids=["published", "saved"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_sees_the_same_settings_in_it(name: str, form: dict[str, Any]) -> None:
    as_it_is = of_class(json.loads(json.dumps(form[name])))
    canonical = of_class(checked_config(name, form[name]))
    # A head of Qwen 2 has no setting of its own there, and is worked out.
    as_it_is.setdefault("head_dim", as_it_is["hidden_size"] // as_it_is["num_attention_heads"])
    for setting in (as_it_is.keys() | canonical.keys()) - _NO_GRAPH:
        ours, theirs = canonical.get(setting), as_it_is.get(setting)
        assert ours == (pytest.approx(theirs, rel=1e-7) if isinstance(theirs, float) else theirs), setting


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_transformers_saves_is_the_published_model(name: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    values = json.loads(json.dumps(PUBLISHED[name]))
    AutoConfig.for_model(values.pop("model_type"), **values).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert checked_config(name, saved) == checked_config(name, PUBLISHED[name])


@pytest.mark.parametrize("kind", BY_MODEL_TYPE)
def test_every_setting_that_a_class_looks_at_is_there(kind: str) -> None:
    package = kind.removesuffix("_text")
    source = inspect.getsource(importlib.import_module(f"transformers.models.{package}.modeling_{package}"))
    read = set(re.findall(r"\bconfig\.(\w+)", source))
    read |= set(re.findall(r"getattr\((?:self\.)?config, \"(\w+)\"", source))
    published = next(one for one in PUBLISHED.values() if one["model_type"] == kind)
    assert read - _READ_BESIDES <= checked_config(kind, published).keys()


@pytest.mark.parametrize("kind", BY_MODEL_TYPE)
def test_defaults_are_the_classes_own(kind: str) -> None:
    from transformers import AutoConfig

    silent = AutoConfig.for_model(kind).to_dict()
    sizes = {"vocab_size": 8, "hidden_size": 4096, "intermediate_size": 8, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 32, "max_position_embeddings": 64}
    silent |= {"head_dim": silent.get("head_dim", 128), "layer_types": None}
    ours = checked_config(kind, {"model_type": kind, **sizes})
    for name in BY_MODEL_TYPE[kind].defaults.keys() - {"sliding_window"}:
        assert ours[name] == silent[name], name
    assert ours["rope_parameters"] == silent["rope_parameters"]


@pytest.mark.parametrize("changes", [{}, {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_tensors_are_the_classes_own(name: str, changes: dict[str, Any]) -> None:
    from satchel.lower.decoder import parameter_shapes

    config = checked_config(name, {**PUBLISHED[name], "num_hidden_layers": 2, "layer_types": None, **changes})
    shapes = parameter_shapes(config)
    if config["tie_word_embeddings"]:
        del shapes["lm_head.weight"]
    assert expected_tensors(config) == shapes
