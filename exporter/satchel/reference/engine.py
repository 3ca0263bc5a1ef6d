"""What every runtime offers: tokens in, the next token's logits out. The Python side of the device's TokenEngine."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """A loaded program with its KV cache.

    `forward` writes the tokens' keys and values at `position` onwards; a smaller position rewinds.
    """

    context_length: int
    prefill_chunk: int
    vocab_size: int

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        """tokens [1..prefill_chunk] at positions `position`, ... -> logits [vocab] after the last one."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class EvaluatorEngine(Engine, Protocol):
    """An engine that is no device's runtime but evaluates a program's meaning.

    It can give the logits of every position of a chunk at once; how fast it is says nothing about a device.
    """

    def forward_each(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        """tokens [n] at positions `position`, ... -> logits [n, vocab] after each of them; the last row is the
        program's own output."""
        ...
