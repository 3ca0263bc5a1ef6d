"""What every runtime offers: tokens in, the next token's logits out. The Python side of the device's TokenEngine."""

from typing import Protocol

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
