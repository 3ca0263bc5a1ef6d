"""Satchel's .pte through the runtime that `make android` proves it with: ExecuTorch's Python package."""

from importlib.metadata import version
from pathlib import Path

from peers.job import Job
from satchel.reference.engine import Engine
from satchel.runtimes.executorch import ExecuTorchEngine


def about() -> str:
    return f"ExecuTorch {version('executorch')}, PyTorch {version('torch')}"


def open_engine(job: Job) -> Engine:
    return ExecuTorchEngine(Path(job.file), job.threads)
