"""A model that a converter fails on, and one that can't be lowered exactly: the same errors from every backend."""

from collections.abc import Callable
from typing import Any

import pytest

from satchel.errors import LoweringError, UnsupportedModelError
from satchel.lower import coreml, decoder, executorch, litert
from satchel.quantize.plan import TensorPlan
from tiny_specs import FAMILIES, TINY, placeholders, spec

OFFSET = TensorPlan("int4", 32, True)
LOWERINGS = pytest.mark.parametrize(
    ("lower", "converter"),
    [(executorch.lower, "ExecuTorch"), (litert.lower, "LiteRT's converter"), (coreml.lower, "coremltools")],
    ids=["executorch", "litert", "coreml"],
)


@LOWERINGS
def test_what_a_converter_raises_becomes_a_lowering_error(
    lower: Callable[..., Any], converter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr(decoder, "_attention", fail)  # runs while the converter traces the model
    config = {**TINY, **FAMILIES["llama"], "num_hidden_layers": 1}
    with pytest.raises(LoweringError, match=f"^{converter} could not lower llama: .*deep inside") as caught:
        lower(spec(config, OFFSET), placeholders(config, OFFSET))
    assert caught.value.__cause__ is not None


@LOWERINGS
def test_a_soft_cap_inside_attention_is_an_unsupported_model(lower: Callable[..., Any], converter: str) -> None:
    """`source.support` refuses it by its config; a family that asks for one in another way is refused here."""
    config = {**TINY, "model_type": "gemma2", "num_hidden_layers": 1, "attn_logit_softcapping": 50.0}
    with pytest.raises(UnsupportedModelError, match=r"attention soft cap 50\.0 can't be lowered"):
        lower(spec(config, OFFSET), placeholders(config, OFFSET))
