"""An engine that answers what a case says."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cases.tokenizer import TOKENIZERS

TOKENIZER = TOKENIZERS["chat"]
END = next(token.id for token in TOKENIZER.added_tokens if token.content == "<|im_end|>")
START = next(token.id for token in TOKENIZER.added_tokens if token.content == "<|im_start|>")


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, special=False)


class ScriptedEngine:
    """Logits 1 at the next id of `answer` and 0 elsewhere; its first id follows a prompt of `prompt` tokens."""

    def __init__(self, context_length: int, prefill_chunk: int) -> None:
        self.vocab_size = TOKENIZER.vocab_size
        self.context_length = context_length
        self.prefill_chunk = prefill_chunk
        self.prompt = 0
        self.answer: Sequence[int] = ()
        self.calls: list[tuple[int, int]] = []

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        self.calls.append((len(tokens), position))
        logits = np.zeros(self.vocab_size, dtype=np.float32)
        said = max(0, position + len(tokens) - self.prompt)
        logits[self.answer[min(said, len(self.answer) - 1)]] = 1.0
        return logits

    def close(self) -> None: ...
