"""One canonical config for every form that a model's config.json is found in."""

from collections.abc import Mapping
from typing import Any

import pytest

from published_configs import PUBLISHED, SAVED
from satchel.errors import ModelError
from satchel.source.support import checked_config


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_form_and_the_one_that_transformers_saves_are_one(name: str) -> None:
    published = checked_config(name, PUBLISHED[name])
    assert checked_config(name, SAVED[name]) == published
    assert checked_config(name, published) == published  # in this form already


def test_what_it_is_made_of() -> None:
    assert checked_config("llama", PUBLISHED["llama"]) == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    }


SAME: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "theta as an integer": ("llama", {"rope_theta": 100000.0}),
    "no rope_scaling": ("llama", {"rope_scaling": {}}),
    "head_dim written out": ("llama", {"head_dim": 16}),
    "head_dim null": ("llama", {"head_dim": None}),
    "another name of the activation": ("llama", {"hidden_act": "swish"}),
    "architectures missing": ("llama", {"architectures": None}),
    "other stop ids": ("llama", {"eos_token_id": [1, 2, 3], "bos_token_id": None, "pad_token_id": 5}),
    "eps from a float32": ("llama", {"rms_norm_eps": 9.999999747378752e-06}),
    "the old name of the scaling": (
        "llama3",
        {"rope_scaling": {**PUBLISHED["llama3"]["rope_scaling"], "type": "llama3"}},
    ),
    "layers after which a window begins": ("qwen2", {"use_sliding_window": True, "max_window_layers": 6}),
    "a hidden_act that Gemma does not look at": ("gemma3", {"hidden_act": "silu"}),
    "tied as it is by default": ("gemma3", {"tie_word_embeddings": True}),
}
OTHER: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "theta": ("llama", {"rope_theta": 10000}),
    "eps": ("llama", {"rms_norm_eps": 1e-6}),
    "scaling": ("llama", {"rope_scaling": {"type": "linear", "factor": 2}}),
    "biases": ("llama", {"attention_bias": True}),
    "untied": ("llama", {"tie_word_embeddings": False}),
    "a window": ("mistral", {"sliding_window": 8}),
    "a window in some layers": ("qwen2", {"use_sliding_window": True, "max_window_layers": 3}),
    "a window every other layer": ("gemma3", {"sliding_window_pattern": 2}),
    "the base of sliding layers": ("gemma3", {"rope_local_base_freq": 20000.0}),
    "the scale of attention": ("gemma3", {"query_pre_attn_scalar": 64}),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_in_other_words(case: str) -> None:
    name, changes = SAME[case]
    assert checked_config(name, {**PUBLISHED[name], **changes}) == checked_config(name, PUBLISHED[name])


@pytest.mark.parametrize("case", OTHER)
def test_what_a_graph_depends_on_stays(case: str) -> None:
    name, changes = OTHER[case]
    assert checked_config(name, {**PUBLISHED[name], **changes}) != checked_config(name, PUBLISHED[name])


def test_mistrals_window_is_there_unless_it_is_null() -> None:
    published = dict(PUBLISHED["mistral"])
    assert checked_config("m", published)["sliding_window"] is None
    del published["sliding_window"]
    assert checked_config("m", published)["sliding_window"] == 4096


def test_layers_with_a_window_are_named() -> None:
    windowed = {**PUBLISHED["qwen2"], "use_sliding_window": True, "max_window_layers": 4, "sliding_window": 16}
    found = checked_config("q", windowed)
    assert found["layer_types"] == ["full_attention"] * 4 + ["sliding_attention"] * 2
    assert (found["use_sliding_window"], found["sliding_window"]) == (True, 16)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma3", {"layer_types": ["full_attention"]}, "for each of 6 layers"),
        ("gemma3", {"layer_types": ["chunked_attention"] * 6}, "must name sliding_attention or full_attention"),
        ("gemma3", {"sliding_window_pattern": 0}, "0 as sliding_window_pattern"),
        ("gemma3", {"sliding_window": None}, "no sliding_window is in use"),
        ("gemma3", {"query_pre_attn_scalar": "16"}, "'16' as query_pre_attn_scalar"),
        ("gemma3", {"num_hidden_layers": 100_000_000}, "no model has more than"),
        ("mistral", {"sliding_window": 0.5}, "0.5 as sliding_window"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": "all"}, "'all' as max_window_layers"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        checked_config(name, {**PUBLISHED[name], **changes})
    assert refused.value.exit_code == 4
