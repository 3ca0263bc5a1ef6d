"""The tiny Llama, trained for seconds on the evaluation texts: it predicts them better than a count of their tokens
does, as a build asks of a model, and its weights lie on the 4-bit grid already, so that four bits don't shake it."""

from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.formats.carried import carried_weight
from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.grid import quantize_weight
from satchel.quantize.plan import TensorPlan
from tiny_model import TINY_CONFIG, Arrays, random_weights, tiny_tokenizer_json

_STEPS, _LEARNING_RATE, _BATCH, _LENGTH = 200, 5e-3, 16, 64
_TABLE = "model.embed_tokens.weight"


def trained_weights(seed: int = 1) -> Arrays:
    """Those of one training; other seeds differ from it a little everywhere."""
    random = np.random.default_rng(seed)
    moved = {
        name: array * (1 + 0.01 * (seed != 1) * random.standard_normal(array.shape)).astype(np.float32)
        for name, array in _trained().items()
    }
    return {name: _on_the_grid(name, array) for name, array in moved.items()}


@cache
def _trained() -> Arrays:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {name: value for name, value in TINY_CONFIG.items() if name != "architectures"}
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    start = random_weights(TINY_CONFIG)
    model.load_state_dict(
        {name: torch.from_numpy(array) for name, array in (start | {"lm_head.weight": start[_TABLE]}).items()}
    )
    ids = torch.from_numpy(_text_ids())
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_STEPS)
    for _ in range(_STEPS):
        begin = torch.randint(0, len(ids) - _LENGTH - 1, (_BATCH,)).tolist()
        rows = torch.stack([ids[index : index + _LENGTH + 1] for index in begin])
        logits = model(input_ids=rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    trained = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    return {name: trained[name] for name in start}


def _text_ids() -> NDArray[np.int64]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tiny_tokenizer_json())
    folder = resources.files("satchel.resources") / "text" / "evaluation"
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.iterdir(), key=lambda file: file.name)]
    return np.array([i for text in texts for i in tokenizer.encode(text).ids], np.int64)


def _on_the_grid(name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """What int4 with offset (int8 for the table) makes of it, twice: then it is its own."""
    if array.ndim == 1:
        return array
    plan = TensorPlan("int8") if name == _TABLE else TensorPlan("int4", group=32, offset=True)
    for _ in range(2):
        grid = quantize_weight(array, plan)
        array = carried_weight(QuantizedTensor(plan, codes=grid.codes, scale=grid.scale, offset=grid.offset))
    return array
