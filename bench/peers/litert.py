"""A .tflite through LiteRT's CompiledModel: Satchel's own, and LiteRT-LM's export of the same model."""

from importlib.metadata import version
from pathlib import Path

from peers.job import Job
from satchel.reference.engine import Engine
from satchel.runtimes.litert import LiteRtEngine


def about() -> str:
    return f"ai-edge-litert {version('ai-edge-litert')}"


def open_engine(job: Job) -> Engine:
    return LiteRtEngine(Path(job.file), job.threads)
