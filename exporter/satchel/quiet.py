"""Keeps converters and runtimes from talking: what they say is about their own plans, not about the user's model."""

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, Python warnings and log lines below ERROR are dropped. Errors still raise and are reported."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def end_quietly() -> None:
    """Standard error goes nowhere from here on. For the very end of our own command, and of no other program.

    LiteRT's library reports the end of its accelerators when the process unloads it, after all of ours has been said.
    """
    if "ai_edge_litert" in sys.modules:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@contextmanager
def captured_native_log() -> Iterator[Callable[[], str]]:
    """Within the block, what native libraries write to file descriptor 2 goes to a file: kept for an error, else
    dropped. The value gives what was written so far. For short calls: progress is not drawn meanwhile."""
    with tempfile.TemporaryFile() as file:
        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)

        def text() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield text
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
