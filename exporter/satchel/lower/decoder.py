"""Any Hugging Face decoder as one module with its own KV cache: the shape every backend lowers.

The transformers model runs as it is. Its attention layers call the function registered below (`AttentionInterface`),
which hands q, k and v to the backend's cache, so no family's modelling code is copied or patched.
"""

from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from torch import nn

from satchel.errors import UnsupportedModelError

ATTENTION_NAME = "satchel"


class Attention(Protocol):
    """What the model's attention layers call."""

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """q [1, heads, n, dim], k and v [1, kv_heads, n, dim] -> [1, n, heads, dim]. window: a sliding window's width,
        the query's own position included."""
        ...


class AttentionCache(Protocol):
    """A backend's KV cache of one layer."""

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        position: Any,
        mask: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """query [1, n, heads, dim], key and value [1, n, kv_heads, dim] -> [1, n, heads, dim], caching k and v."""
        ...


def parsed_config(config: Mapping[str, Any]) -> Any:
    """transformers' own object of this config.json, with every default that the file leaves out.

    Raises UnsupportedModelError if transformers doesn't know the model type or refuses a value.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    values = {key: value for key, value in config.items() if key not in ("torch_dtype", "dtype", "quantization_config")}
    try:
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except (KeyError, ValueError, StrictDataclassError) as error:
        raise UnsupportedModelError(f"transformers can't build this model's config: {error}") from error


def build_model(config: Mapping[str, Any]) -> nn.Module:
    """A transformers model of this config.json in eval mode, its parameters still on the meta device (no memory).

    Raises UnsupportedModelError as `parsed_config` does.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    parsed = parsed_config(config)
    # The name must be known before the model is built: transformers checks it against the registry.
    _register_attention()
    with init_empty_weights(include_buffers=False):  # buffers (rotary frequencies) are computed, not loaded
        model = AutoModelForCausalLM.from_config(parsed, attn_implementation=ATTENTION_NAME, dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None  # only matters for gradients, and hides the embedding from quantization fusion
    return cast(nn.Module, model.eval())


def parameter_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every parameter that the program of this config has, and its shape; a tied head is listed too."""
    return parameters(build_model(config))


def parameters(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every parameter of the model and its shape; a tied head is listed too."""
    return {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}


def head_dim(config: Any) -> int:
    """Size of one attention head of a transformers config."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


class Decoder(nn.Module):
    """forward(tokens int64 [1, n], start_pos int64 [1]) -> logits float32 [1, 1, vocab] of the last token."""

    def __init__(self, model: nn.Module, caches: nn.ModuleList, context_length: int) -> None:
        super().__init__()
        self.model = model
        self.caches = caches
        self.context_length = context_length
        self._position: Any = None
        self._masks: dict[int, torch.Tensor] = {}

    def forward(self, tokens: torch.Tensor, start_pos: torch.Tensor) -> torch.Tensor:
        n = tokens.shape[1]
        position = start_pos[0].item()
        torch._check(position >= 0)
        torch._check(position + n <= self.context_length)
        torch._check(position < self.context_length)
        self._position, self._masks = position, {}
        logits = last_logits(self.model, self, tokens, torch.arange(n) + start_pos)
        self._position, self._masks = None, {}
        return logits

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """q, k, v [1, heads, n, dim] as transformers gives them -> [1, n, heads, dim]."""
        mask = self._window_mask(q.shape[2], window) if window is not None and window < self.context_length else None
        cache = cast(AttentionCache, self.caches[layer])
        return cache.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), self._position, mask, scale)

    def _window_mask(self, n: int, window: int) -> torch.Tensor:
        """Additive mask [n, context]: 0 for the last `window` keys up to the query's own, -inf elsewhere."""
        if window not in self._masks:
            query = (torch.arange(n) + self._position).unsqueeze(1)
            key = torch.arange(self.context_length).unsqueeze(0)
            visible = (key <= query) & (key > query - window)
            self._masks[window] = torch.where(visible, 0.0, float("-inf"))
        return self._masks[window]


_current: list[Attention] = []


def last_logits(model: nn.Module, attention: Attention, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Runs the model on tokens [1, n] at positions [n]; its attention layers call `attention`.

    -> logits float32 [1, 1, vocab] of the last token.
    """
    _current.append(attention)
    try:
        output = model(
            input_ids=tokens,
            position_ids=positions.unsqueeze(0),
            attention_mask=None,
            past_key_values=None,
            use_cache=False,
            logits_to_keep=1,
        )
    finally:
        _current.pop()
    return cast(torch.Tensor, output.logits)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The function transformers calls in every attention layer (`ALL_ATTENTION_FUNCTIONS` signature)."""
    if softcap is not None:
        raise UnsupportedModelError(f"attention soft cap {softcap} can't be lowered: no backend's attention has one")
    window = sliding_window if sliding_window is not None else getattr(module, "sliding_window", None)
    scale = float(scaling) if scaling is not None else query.shape[-1] ** -0.5
    return _current[-1].attend(module.layer_idx, query, key, value, scale, window), None


def _register_attention() -> None:
    from transformers.modeling_utils import AttentionInterface

    # No mask function is registered under this name, so transformers builds no mask: the cache's attention is causal.
    AttentionInterface.register(ATTENTION_NAME, _attention)
