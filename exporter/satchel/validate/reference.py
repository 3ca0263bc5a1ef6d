"""The float reference: Hugging Face's own model, in float32, with a checkpoint's dequantized weights."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BadWeightsError


class Reference:
    """transformers' model on the CPU. `read` gives a parameter of any name the model has as float32.

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
        for name, parameter in list(model.named_parameters()):
            value = torch.from_numpy(np.ascontiguousarray(read(name), np.float32))
            if value.shape != parameter.shape:
                raise BadWeightsError(f"{name}: the model needs {tuple(parameter.shape)}, found {tuple(value.shape)}")
            module, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(module), leaf, torch.nn.Parameter(value, requires_grad=False))
        model.tie_weights()
        self._torch = torch
        self._model = model.eval()

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """ids [n] -> logits float32 [n, vocab], one forward pass over the whole text."""
        with self._torch.no_grad():
            output = self._model(input_ids=self._torch.from_numpy(ids).reshape(1, -1), use_cache=False)
        result: NDArray[np.float32] = output.logits[0].numpy()
        return result
