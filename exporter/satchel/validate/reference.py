"""The float reference: Hugging Face's own model, in float32, with a checkpoint's dequantized weights."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BadWeightsError


class Reference:
    """transformers' model on the CPU. `read` gives a parameter of any name the model has as float32.

    Two halves, whose weights are read when they are first needed: the decoder (ids to the last hidden states) and the
    head (hidden states to logits), so that logits of many positions over a large vocabulary are never held at once.
    A tied head is asked for under the embedding's name. double: compute in float64 (all but the cosines of positions);
    what is left of a difference from it is the other side's rounding. Raises BadWeightsError on a wrong shape.
    """

    def __init__(
        self, config: Mapping[str, Any], read: Callable[[str], NDArray[np.float32]], *, double: bool = False
    ) -> None:
        import torch
        from accelerate import init_empty_weights
        from transformers import AutoConfig, AutoModelForCausalLM

        values = {k: v for k, v in config.items() if k not in ("torch_dtype", "dtype", "quantization_config")}
        parsed = AutoConfig.for_model(values.pop("model_type"), **values)
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(
                parsed, attn_implementation="eager" if double else "sdpa", dtype=torch.float32
            )
        model.tie_weights()  # a tied head is then no parameter of its own
        if double:
            _double(model)
        self._torch = torch
        self._read = read
        self._model = model.eval()
        self._precision = _in_float64 if double else nullcontext
        decoder = {id(parameter) for parameter in model.get_decoder().parameters()}
        head = model.get_output_embeddings().weight
        self._missing = {
            "decoder": [name for name, one in model.named_parameters() if id(one) in decoder],
            "head": [name for name, one in model.named_parameters() if id(one) not in decoder or one is head],
        }

    def hidden(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """ids [n] -> last hidden states [n, width], float32 or float64 if double, in one forward pass."""
        self._load("decoder")
        with self._computing():
            output = self._model.get_decoder()(input_ids=self._torch.from_numpy(ids).reshape(1, -1), use_cache=False)
        result: NDArray[np.float32] = output.last_hidden_state[0].numpy()
        return result

    def logits_of(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Last hidden states [n, width] -> logits [n, vocab] of the same type: all that the model does behind its
        decoder."""
        from transformers.modeling_outputs import BaseModelOutputWithPast

        self._load("head")
        decoder, given = self._model.get_decoder(), self._torch.from_numpy(np.ascontiguousarray(hidden))[None]
        # The class's own forward runs: a soft cap or a scale of the logits is its business.
        decoder.forward = lambda **_: BaseModelOutputWithPast(last_hidden_state=given)
        try:
            with self._computing():
                output = self._model(input_ids=self._torch.zeros(1, len(hidden), dtype=self._torch.int64))
        finally:
            del decoder.forward
        result: NDArray[np.float32] = output.logits[0].numpy()
        return result

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """ids [n] -> logits [n, vocab], float32 or float64 if double, all at once: for short texts."""
        return self.logits_of(self.hidden(ids))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Half of the processors' threads: PyTorch takes all, and where two are one core, or another process has one,
        they spend their time waiting for each other."""
        threads = self._torch.get_num_threads()
        self._torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
        try:
            with self._torch.no_grad(), self._precision():
                yield
        finally:
            self._torch.set_num_threads(threads)

    def _load(self, half: str) -> None:
        names, self._missing[half] = self._missing[half], []
        parameters = dict(self._model.named_parameters())
        for name in names:
            if parameters[name].device.type != "meta":  # a tied table that the other half has read
                continue
            value = self._torch.from_numpy(np.ascontiguousarray(self._read(name), np.float32))
            if value.shape != parameters[name].shape:
                raise BadWeightsError(
                    f"{name}: the model needs {tuple(parameters[name].shape)}, found {tuple(value.shape)}"
                )
            module, _, leaf = name.rpartition(".")
            value = value.to(parameters[name].dtype)
            setattr(self._model.get_submodule(module), leaf, self._torch.nn.Parameter(value, requires_grad=False))
        if names:
            self._model.tie_weights()


def _double(model: Any) -> None:
    """Makes everything of the model float64 but its rotary embedding: what the cosine of a position is belongs to the
    model, and float32 positions times frequencies are part of that."""
    from torch.utils._python_dispatch import _disable_current_modes

    def in_float32(rotary: Any) -> None:
        forward = rotary.forward

        def tables(x: Any, *args: Any, **kwargs: Any) -> Any:
            with _disable_current_modes():
                return tuple(table.double() for table in forward(x.float(), *args, **kwargs))

        rotary.forward = tables

    rotaries = [module for module in model.modules() if type(module).__name__.endswith("RotaryEmbedding")]
    buffers = [(rotary, name, buffer) for rotary in rotaries for name, buffer in rotary.named_buffers()]
    model.double()
    for rotary, name, buffer in buffers:
        setattr(rotary, name, buffer)
    for rotary in rotaries:
        in_float32(rotary)


@contextmanager
def _in_float64() -> Iterator[None]:
    """Within the block a cast to float32 is one to float64: norms, rotary positions and softmax ask for float32."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Doubled(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked = dict(kwargs or {})
            if asked.get("dtype") is torch.float32:
                asked["dtype"] = torch.float64
            return func(*args, **asked)

    with Doubled():  # type: ignore[no-untyped-call]
        yield
