"""What only one architecture's metadata says, and what of it is refused."""

from typing import Any

import pytest

from satchel.errors import CorruptModelError, ModelError, UnsupportedModelError
from satchel.source.checkpoint import EMBEDDING
from satchel.source.gguf.architecture import ARCHITECTURES
from satchel.source.gguf.config import make_config
from satchel.source.gguf.header import GgufTensor
from satchel.source.gguf.metadata import Metadata

SIZES: dict[str, Any] = {
    "context_length": 4096,
    "embedding_length": 640,
    "feed_forward_length": 2048,
    "attention.head_count": 4,
    "attention.head_count_kv": 1,
    "attention.key_length": 256,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 1e6,
}


def config(name: str, layers: int = 7, **changes: Any) -> dict[str, Any]:
    fields = {**SIZES, **{key.replace("__", "."): value for key, value in changes.items()}}
    named = {f"{name}.{key}": value for key, value in fields.items() if value is not None}
    table = GgufTensor("token_embd.weight", None, (100, 640), None, 0, 0)  # type: ignore[arg-type]
    return make_config(ARCHITECTURES[name], Metadata("m.gguf", name, named), layers, {EMBEDDING: table}, None)


def test_gemma_3_as_published() -> None:
    found = config("gemma3", attention__sliding_window=512)
    assert found["layer_types"] == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    assert (found["sliding_window"], found["query_pre_attn_scalar"]) == (512, 256)
    assert (found["rope_theta"], found["rope_local_base_freq"]) == (1e6, 10_000.0)
    assert found["hidden_activation"] == "gelu_pytorch_tanh"
    assert found["tie_word_embeddings"] is True


def test_gemma_3_27b_scales_its_queries_by_the_width_per_head() -> None:
    found = config("gemma3", 62, attention__sliding_window=1024)
    assert found["query_pre_attn_scalar"] == 160


def test_mistral_has_no_window_of_its_own() -> None:
    found = config("mistral3")
    assert (found["architectures"], found["sliding_window"]) == (["MistralForCausalLM"], None)


REFUSALS: dict[str, tuple[str, dict[str, Any], type[ModelError], str]] = {
    "no base": ("gemma3", {"rope__freq_base": None}, CorruptModelError, "no metadata entry gemma3.rope.freq_base"),
    "pattern of texts": (
        "gemma3",
        {"attention__sliding_window": 8, "attention__sliding_window_pattern": ["a"] * 7},
        CorruptModelError,
        "sliding_window_pattern",
    ),
    "pattern too short": (
        "gemma3",
        {"attention__sliding_window": 8, "attention__sliding_window_pattern": [True]},
        CorruptModelError,
        "sliding_window_pattern",
    ),
    "window of no size": ("gemma3", {"attention__sliding_window": -1}, CorruptModelError, "sliding_window"),
    "soft cap": ("gemma3", {"final_logit_softcapping": 30.0}, UnsupportedModelError, "gemma3.final_logit_softcapping"),
    "ministral": ("mistral3", {"attention__temperature_scale": 0.1}, UnsupportedModelError, "temperature_scale"),
    "ministral's yarn": ("mistral3", {"rope__scaling__type": "yarn"}, UnsupportedModelError, "'yarn'"),
    "window of qwen": ("qwen2", {"attention__sliding_window": 64}, UnsupportedModelError, "sliding window"),
    "key of another": ("qwen3", {"rope__freq_base_swa": 1e4}, UnsupportedModelError, "qwen3.rope.freq_base_swa"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses(case: str) -> None:
    name, changes, error, named = REFUSALS[case]
    with pytest.raises(error) as caught:
        config(name, **changes)
    assert named in str(caught.value)
