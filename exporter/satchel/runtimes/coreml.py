"""Runs a Core ML package on this machine with Satchel's own evaluator: no Apple software, numpy alone.

The package's interface: `inputIds` int32 [1, q] and `fullAttentionMask` [1, 1, q, end] (0 where a key may be seen),
states `keyCache` and `valueCache` [layers, heads, context, width], output `logits` [1, 1, vocab] of the last position.
"""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import BundleError
from satchel.formats.mlpackage import HIDDEN
from satchel.formats.mlpackage_program import Operation
from satchel.runtimes.mil.evaluator import Evaluator
from satchel.runtimes.mil.threads import blas_threads

IDS, MASK, LOGITS, KEYS = "inputIds", "fullAttentionMask", "logits", "keyCache"


class CoreMlEngine:
    """The Engine of one .mlpackage. threads: of matrix products; None for one, which a busy machine can't slow.

    exact: no result is rounded, which is what the graph proof compares. Raises BundleError if the package has another
    interface than ours.
    """

    def __init__(self, path: Path, threads: int | None = None, exact: bool = False) -> None:
        self._threads = threads or 1
        program = Evaluator(path, exact=exact)
        interface = {*program.inputs, *program.outputs, *program.states}
        missing = sorted({IDS, MASK, LOGITS, KEYS} - interface)
        if missing:
            raise BundleError(f"{path.name} is no language model of Satchel's: it has no {', '.join(missing)}")
        self._program: Evaluator | None = program
        self._state = program.make_state()
        self._mask_type = np.dtype(program.inputs[MASK].dtype)
        self._last = _last_position(program)
        self.prefill_chunk = program.inputs[IDS].shape[1]
        self.context_length = program.states[KEYS].shape[2]
        self.vocab_size = program.outputs[LOGITS].shape[-1] if program.outputs[LOGITS].shape else _vocabulary(program)

    def forward(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        logits = self._run(tokens, position, ())[LOGITS]
        last: NDArray[np.float32] = logits.reshape(-1, self.vocab_size)[-1].astype(np.float32)
        return last

    def forward_each(self, tokens: NDArray[np.int64], position: int) -> NDArray[np.float32]:
        """tokens [n] at positions `position`, ... -> logits [n, vocab] after each of them.

        The program keeps only the last position before its head; the head is evaluated for the others here.
        """
        assert self._program is not None, "the engine is closed"
        if self._last is None:
            return self._run(tokens, position, ())[LOGITS].reshape(-1, self.vocab_size).astype(np.float32)
        every, last = self._last
        found = self._run(tokens, position, (every,))
        with blas_threads(self._threads):
            resumed = self._program.resume({last: found[every]}, (LOGITS,))[LOGITS]
        logits: NDArray[np.float32] = resumed.reshape(-1, self.vocab_size).astype(np.float32, copy=False)
        logits[-1] = found[LOGITS].reshape(-1)
        return logits

    def _run(self, tokens: NDArray[np.int64], position: int, read: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        assert self._program is not None, "the engine is closed"
        count = len(tokens)
        keys = np.arange(position + count)
        visible = keys[None, :] <= keys[position:, None]
        mask = np.where(visible, 0.0, HIDDEN).astype(self._mask_type)
        inputs = {IDS: tokens.reshape(1, count).astype(np.int32), MASK: mask[None, None]}
        with blas_threads(self._threads):
            return self._program.run(inputs, self._state, read)

    def close(self) -> None:
        self._program, self._state = None, {}


def _last_position(program: Evaluator) -> tuple[str, str] | None:
    """(values of all positions, value of the last one) where the program drops the others before its head.

    None if it does so nowhere on the way to the logits.
    """
    made = {output.name: operation for operation in program.function.block.operations for output in operation.outputs}
    waiting, seen = deque([LOGITS]), {LOGITS}
    while waiting:
        operation = made.get(waiting.popleft())
        if operation is None:
            continue
        if _keeps_last(operation, made):
            return str(operation.inputs["x"][0]), operation.outputs[0].name
        for values in operation.inputs.values():
            for name in values:
                if isinstance(name, str) and name not in seen:
                    seen.add(name)
                    waiting.append(name)
    return None


def _keeps_last(operation: Operation, made: dict[str, Operation]) -> bool:
    """True for a slice from [1, any number, hidden] to [1, 1, hidden]."""
    if operation.type != "slice_by_index":
        return False
    source = made.get(str(operation.inputs["x"][0]))
    before = (
        next((out.type.shape for out in source.outputs if out.name == operation.inputs["x"][0]), ()) if source else ()
    )
    after = operation.outputs[0].type.shape
    return len(before) == len(after) == 3 and before[1] is None and after[1] == 1 and before[2] == after[2]


def _vocabulary(program: Evaluator) -> int:
    """From the output's type inside the program, where the description leaves its shape open."""
    for operation in program.function.block.operations:
        for output in operation.outputs:
            if output.name == LOGITS and output.type.shape and output.type.shape[-1]:
                return output.type.shape[-1]
    raise BundleError("the program does not say how many logits it gives")
