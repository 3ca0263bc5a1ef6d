"""Calls of an engine and chunks of text, from prompts to finish reasons."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cases.tokenizer import TOKENIZERS
from satchel.reference.session import GenerateOptions, generate


class ScriptedEngine:
    """Logits 1 at the next id of a fixed answer and 0 elsewhere."""

    vocab_size = 400

    def __init__(self, case: dict[str, Any]) -> None:
        self.context_length: int = case["context_length"]
        self.prefill_chunk: int = case["prefill_chunk"]
        self._prompt: int = case["prompt"]
        self._answer: Sequence[int] = case["answer"]
        self.calls: list[tuple[int, int]] = []

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        self.calls.append((len(tokens), position))
        logits = np.zeros(self.vocab_size, dtype=np.float32)
        said = max(0, position + len(tokens) - self._prompt)
        logits[self._answer[min(said, len(self._answer) - 1)]] = 1.0
        return logits

    def close(self) -> None: ...


def generate_cases() -> list[dict[str, Any]]:
    tokenizer = TOKENIZERS["chat"]
    end = next(token.id for token in tokenizer.added_tokens if token.content == "<|im_end|>")
    start = next(token.id for token in tokenizer.added_tokens if token.content == "<|im_start|>")
    text = tokenizer.encode("Hello world \u4f60\U0001f468\U0001f600 it's", special=False)
    settings: tuple[tuple[int, int, int, int, list[int]], ...] = (
        # prompt, context, chunk, max_new_tokens, answer
        (5, 64, 4, 256, [*text, end]),
        (8, 64, 4, 256, [start, *text[:4], start, *text[4:], end]),
        (1, 64, 64, 256, [end]),
        (3, 64, 2, 5, text),
        (3, 64, 2, len(text) - 1, text),
        (9, 12, 4, 256, text),
        (12, 12, 5, 256, text),
        (11, 12, 5, 1, text),
        (2, 64, 8, 12, [*tokenizer.encode("\u20ac", special=False)[:2], *text]),
        (2, 64, 8, 4, tokenizer.encode("\U0001f468", special=False)[:3]),
    )
    cases: list[dict[str, Any]] = []
    for prompt, context, chunk, max_new_tokens, answer in settings:
        case: dict[str, Any] = {
            "prompt": prompt,
            "context_length": context,
            "prefill_chunk": chunk,
            "max_new_tokens": max_new_tokens,
            "stop_ids": [end],
            "answer": answer,
        }
        engine = ScriptedEngine(case)
        options = GenerateOptions(max_new_tokens)
        chunks = list(generate(engine, tokenizer, [7] * prompt, [end], options))
        case["calls"] = engine.calls
        case["chunks"] = [{"text": chunk.text, "ids": chunk.ids} for chunk in chunks]
        case["finish_reason"] = chunks[-1].finish_reason
        cases.append(case)
    return cases


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""
    return {"generate.json": {"cases": generate_cases()}}
