"""The float reference: Hugging Face's own model, in float32, with a checkpoint's dequantized weights."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BadWeightsError


class Reference:
    """transformers' model on the CPU. `read` gives a parameter of any name the model has as float32.

    Two halves, whose weights are read when they are first needed: the decoder (ids to the last hidden states) and the
    head (hidden states to logits), so that logits of many positions over a large vocabulary are never held at once.
    A tied head is asked for under the embedding's name. Raises BadWeightsError on a wrong shape.
    """

    def __init__(self, config: Mapping[str, Any], read: Callable[[str], NDArray[np.float32]]) -> None:
        import torch
        from accelerate import init_empty_weights
        from transformers import AutoConfig, AutoModelForCausalLM

        values = {k: v for k, v in config.items() if k not in ("torch_dtype", "dtype", "quantization_config")}
        parsed = AutoConfig.for_model(values.pop("model_type"), **values)
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(parsed, attn_implementation="eager", dtype=torch.float32)
        model.tie_weights()  # a tied head is then no parameter of its own
        self._torch = torch
        self._read = read
        self._model = model.eval()
        decoder = {id(parameter) for parameter in model.get_decoder().parameters()}
        head = model.get_output_embeddings().weight
        self._missing = {
            "decoder": [name for name, one in model.named_parameters() if id(one) in decoder],
            "head": [name for name, one in model.named_parameters() if id(one) not in decoder or one is head],
        }

    def hidden(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """ids [n] -> last hidden states float32 [n, width], one forward pass over the whole text."""
        self._load("decoder")
        with self._torch.no_grad():
            output = self._model.get_decoder()(input_ids=self._torch.from_numpy(ids).reshape(1, -1), use_cache=False)
        result: NDArray[np.float32] = output.last_hidden_state[0].numpy()
        return result

    def logits_of(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Last hidden states [n, width] -> logits float32 [n, vocab]: all that the model does behind its decoder."""
        from transformers.modeling_outputs import BaseModelOutputWithPast

        self._load("head")
        decoder, given = self._model.get_decoder(), self._torch.from_numpy(np.ascontiguousarray(hidden))[None]
        # The class's own forward runs: a soft cap or a scale of the logits is its business.
        decoder.forward = lambda **_: BaseModelOutputWithPast(last_hidden_state=given)
        try:
            with self._torch.no_grad():
                output = self._model(input_ids=self._torch.zeros(1, len(hidden), dtype=self._torch.int64))
        finally:
            del decoder.forward
        result: NDArray[np.float32] = output.logits[0].numpy()
        return result

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """ids [n] -> logits float32 [n, vocab], all at once: for short texts."""
        return self.logits_of(self.hidden(ids))

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
            setattr(self._model.get_submodule(module), leaf, self._torch.nn.Parameter(value, requires_grad=False))
        if names:
            self._model.tie_weights()
