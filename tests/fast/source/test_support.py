"""Every refusal before slow work: exit code 4, one sentence that names the cause and the way out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.cache import Cache
from satchel.errors import (
    BadWeightsError,
    ContextLengthError,
    CorruptModelError,
    ModelError,
    ModelNotFoundError,
    TokenizerError,
    UnsafeModelError,
    UnsupportedModelError,
)
from satchel.source.architectures import FULL, SLIDING
from satchel.source.resolve import open_model
from satchel.source.support import check_context_length, checked_config
from satchel.tools import Tools
from tiny_model import TINY_CONFIG

MakeDirectory = Callable[..., Path]
Arrays = dict[str, NDArray[np.float32]]
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
QWEN = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
GEMMA = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}
Q = "model.layers.1.self_attn.q_proj.weight"


def _open(folder: Path, cache: Cache) -> Any:
    return open_model(str(folder), cache, Tools({}))


def test_a_good_directory_opens(make_directory: MakeDirectory, cache: Cache) -> None:
    assert _open(make_directory(), cache).model_id == "tiny"


def test_a_good_gguf_file_opens(make_gguf: Callable[..., Path], cache: Cache) -> None:
    assert _open(make_gguf(), cache).model_id == "tiny-model"


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}, UnsafeModelError, "never runs a model's code"),
        ({"architectures": ["MixtralForCausalLM"]}, UnsupportedModelError, "MixtralForCausalLM.*LlamaForCausalLM"),
        ({"architectures": None, "model_type": None}, UnsupportedModelError, "None"),
        ({"model_type": "mamba"}, UnsupportedModelError, "model_type 'mamba'"),
        ({"model_type": ["llama"]}, UnsupportedModelError, r"model_type \['llama'\]"),
        ({"hidden_size": None}, CorruptModelError, "None as hidden_size"),
        ({"num_hidden_layers": "two"}, CorruptModelError, "'two' as num_hidden_layers"),
        ({"use_bidirectional_attention": True}, UnsupportedModelError, "tokens after .*use_bidirectional_attention"),
        ({"is_causal": False}, UnsupportedModelError, "tokens after one too.*is_causal in config.json is false"),
        ({"return_dict": False}, UnsupportedModelError, "return_dict in config.json is false"),
        ({"is_encoder_decoder": True}, UnsupportedModelError, "is_encoder_decoder"),
        ({"add_cross_attention": True}, UnsupportedModelError, "attends to another model"),
        ({"per_layer_config": {"0": {"head_dim": 8}}}, UnsupportedModelError, "layers of different shapes"),
        ({"hidden_act": "xielu"}, UnsupportedModelError, "activation 'xielu' .hidden_act"),
        ({"partial_rotary_factor": 0.5}, UnsupportedModelError, "partial_rotary_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, UnsupportedModelError, "partial_rotary_factor"),
        ({**QWEN, "layer_types": ["full_attention", "chunked_attention"]}, UnsupportedModelError, "layer_types"),
        ({**GEMMA, "layer_types": ["full_attention"] * 3}, UnsupportedModelError, "layer_types.*each of 2 layers"),
        ({**MISTRAL, "sliding_window": 0}, CorruptModelError, "gives 0 as sliding_window"),
        ({**QWEN, "layer_types": ["sliding_attention"] * 2, "sliding_window": 64}, CorruptModelError, "is in use"),
        ({**QWEN, "use_sliding_window": True, "sliding_window": "wide"}, CorruptModelError, "'wide' as sliding_window"),
        ({**GEMMA, "sliding_window": -1}, CorruptModelError, "-1 as sliding_window"),
        ({**GEMMA, "sliding_window_pattern": 0}, CorruptModelError, "0 as sliding_window_pattern"),
        ({"attn_logit_softcapping": 50.0}, UnsupportedModelError, "caps the logits inside attention"),
        ({"num_local_experts": 8}, UnsupportedModelError, "mixture of experts"),
        ({"quantization_config": {"quant_method": "gptq"}}, UnsupportedModelError, "already quantized"),
        ({"num_key_value_heads": -2}, CorruptModelError, "-2 as num_key_value_heads"),
        ({"rope_scaling": "yarn"}, CorruptModelError, "rope_scaling in config.json is 'yarn'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, UnsupportedModelError, "'dynamic'"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "longrope"}, "sliding_attention": {}}},
            UnsupportedModelError,
            "rope parameters for full_attention alone",
        ),
        ({"rope_parameters": {"rope_type": "longrope"}}, UnsupportedModelError, "'longrope'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, CorruptModelError, "lacks low_freq_factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "2"}}, CorruptModelError, "'2' as factor"),
        ({"partial_rotary_factor": 0.5}, UnsupportedModelError, "only a part of each head"),
        ({"rope_theta": "10000"}, CorruptModelError, "'10000' as rope_theta"),
        ({"rope_theta": -1}, CorruptModelError, "-1 as rope_theta"),
        ({"rms_norm_eps": "1e-5"}, CorruptModelError, "'1e-5' as rms_norm_eps"),
        ({"rms_norm_eps": 0.0}, CorruptModelError, "0.0 as rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, CorruptModelError, "nan as rms_norm_eps"),
        ({"hidden_act": "swiglu"}, UnsupportedModelError, "activation 'swiglu'"),
        ({"hidden_act": ["silu"]}, UnsupportedModelError, "activation"),
        ({"attention_bias": "no"}, CorruptModelError, "'no' as attention_bias"),
        ({"hidden_size": 10**400}, CorruptModelError, r"100000000000\d*\.\.\. as hidden_size"),
        ({"rope_theta": 10**400}, CorruptModelError, r"\.\.\. as rope_theta"),
        ({"vocab_size": True}, CorruptModelError, "True as vocab_size"),
        ({"num_key_value_heads": 3}, CorruptModelError, "4 attention heads to 3"),
        ({"head_dim": 15}, UnsupportedModelError, "15 numbers"),
    ],
)
def test_configs_that_cannot_be_lowered(
    make_directory: MakeDirectory, cache: Cache, config: dict[str, Any], error: type[ModelError], message: str
) -> None:
    with pytest.raises(error, match=message) as refusal:
        _open(make_directory(config=config), cache)
    assert refusal.value.exit_code == 4


@pytest.mark.parametrize(
    "config",
    [
        {"rope_scaling": {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}},
        {"architectures": None},
        {"architectures": []},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        {"attn_logit_softcapping": None, "num_experts": 0},
        {"layer_types": ["full_attention"] * 2, "partial_rotary_factor": 1.0, "is_causal": True},
        {**MISTRAL, "sliding_window": None},
        {**MISTRAL, "sliding_window": 64},
        {"architectures": ["MistralForCausalLM"], "model_type": "mistral"},
    ],
)
def test_configs_that_can(make_directory: MakeDirectory, cache: Cache, config: dict[str, Any]) -> None:
    assert _open(make_directory(config=config), cache).model_id == "tiny"


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({**QWEN, "sliding_window": 64, "use_sliding_window": False}, [FULL, FULL]),
        ({**QWEN, "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1}, [FULL, SLIDING]),
        ({**GEMMA, "sliding_window": 64, "sliding_window_pattern": 2}, [SLIDING, FULL]),
        ({**GEMMA, "sliding_window": 64, "layer_types": [SLIDING, FULL]}, [SLIDING, FULL]),
    ],
)
def test_layers_of_two_kinds(config: dict[str, Any], kinds: list[str]) -> None:
    assert checked_config("tiny", {**TINY_CONFIG, **config})["layer_types"] == kinds


def _missing(arrays: Arrays) -> None:
    del arrays[Q]


def _missing_layer(arrays: Arrays) -> None:
    for name in [name for name in arrays if name.startswith("model.layers.1.")]:
        del arrays[name]


def _missing_embedding(arrays: Arrays) -> None:
    del arrays["model.embed_tokens.weight"]


def _surplus_layer(arrays: Arrays) -> None:
    arrays["model.layers.2.mlp.up_proj.weight"] = arrays["model.layers.1.mlp.up_proj.weight"]


def _wrong_shape(arrays: Arrays) -> None:
    arrays[Q] = arrays[Q][:32]


def _stranger(arrays: Arrays) -> None:
    arrays["vision_tower.weight"] = arrays[Q]


def _lora(arrays: Arrays) -> None:
    arrays["model.layers.0.self_attn.q_proj.lora_A.weight"] = np.ones((4, 64), np.float32)


def _scales(arrays: Arrays) -> None:
    arrays |= {f"model.layers.{layer}.self_attn.k_proj.k_scale": np.ones(1, np.float32) for layer in range(2)}


def _biases(arrays: Arrays) -> None:
    arrays |= {f"model.layers.{layer}.mlp.up_proj.bias": np.zeros(96, np.float32) for layer in range(2)}


def _short_embedding(arrays: Arrays) -> None:
    arrays["model.embed_tokens.weight"] = arrays["model.embed_tokens.weight"][:-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_missing, r"layer 1 of 2 lacks self_attn\.q_proj\.weight"),
        (_missing_layer, "layer 1 of 2 lacks"),
        (_missing_embedding, r"no tensor model\.embed_tokens\.weight"),
        (_surplus_layer, "weights of layer 2, but config.json has only 2"),
        (_wrong_shape, rf"{Q} has the shape \[32, 64\], but config\.json makes it \[64, 64\]"),
        (_lora, r"q_proj\.lora_A\.weight is of an adapter that was not merged.*merge_and_unload"),
        (_scales, r"layers\.0\.self_attn\.k_proj\.k_scale belongs to no part of llama"),
        (_biases, r"layers\.0\.mlp\.up_proj\.bias belongs to no part of llama"),
        (_stranger, r"vision_tower\.weight belongs to no part"),
        (_short_embedding, r"embed_tokens\.weight has the shape \[299, 64\]"),
    ],
)
def test_tensors_that_do_not_fit_the_config(
    make_directory: MakeDirectory,
    cache: Cache,
    tiny_arrays: Arrays,
    change: Callable[[Arrays], None],
    message: str,
) -> None:
    change(tiny_arrays)
    with pytest.raises(BadWeightsError, match=message):
        _open(make_directory(), cache)


def test_an_untied_model_needs_a_head(make_directory: MakeDirectory, cache: Cache) -> None:
    with pytest.raises(BadWeightsError, match=r"no tensor lm_head\.weight"):
        _open(make_directory(config={"tie_word_embeddings": False}), cache)


def test_a_model_that_does_not_say_that_it_is_tied_needs_a_head(make_directory: MakeDirectory, cache: Cache) -> None:
    with pytest.raises(BadWeightsError, match=r'no tensor lm_head\.weight, and config.*"tie_word_embeddings": true'):
        _open(make_directory(config={"tie_word_embeddings": None}), cache)


def test_biases_that_an_architecture_always_has_are_missed(make_directory: MakeDirectory, cache: Cache) -> None:
    config = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    with pytest.raises(BadWeightsError, match=r"layer 0 of 2 lacks self_attn\.q_proj\.bias"):
        _open(make_directory(config=config), cache)


def test_a_vocabulary_larger_than_the_embedding(
    make_directory: MakeDirectory, cache: Cache, tiny_arrays: Arrays
) -> None:
    tiny_arrays["model.embed_tokens.weight"] = tiny_arrays["model.embed_tokens.weight"][:258]
    with pytest.raises(TokenizerError, match="token id 258, but the embedding has only 258 rows"):
        _open(make_directory(config={"vocab_size": 258}), cache)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"model": {"vocab": []}}', '{"model": {"vocab": {"a": 0}}, "added_tokens": [3]}']
)
def test_a_damaged_tokenizer(make_directory: MakeDirectory, cache: Cache, text: str) -> None:
    folder = make_directory()
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json can't be read"):
        _open(folder, cache)


def test_a_context_longer_than_the_models(make_directory: MakeDirectory, cache: Cache) -> None:
    checkpoint = _open(make_directory(), cache)
    check_context_length(checkpoint, 256)
    with pytest.raises(ContextLengthError, match="--context 256 or less"):
        check_context_length(checkpoint, 257)


@pytest.mark.parametrize("model", ["smolm2", "a/b/c", "a b"])
def test_an_unknown_model_says_what_a_model_can_be(cache: Cache, model: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"smollm2-135m-instruct.*directory.*hub id.*\.gguf"):
        open_model(model, cache, Tools({}))
