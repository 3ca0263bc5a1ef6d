"""A process that measures one peer once: `python -m peers.worker about|speed|closeness PEER JOB RESULT`.

PEER is a module of this package with `about() -> str` and either `open_engine(job) -> Engine` or
`speed(job, bare_mb) -> Speed`.
"""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peers.job import Job
from peers.measure import engine_closeness, engine_speed, peak_mb


def main() -> None:
    bare = peak_mb()  # Python with numpy
    task, name, job_file, result_file = sys.argv[1:]
    peer = importlib.import_module(f"peers.{name}")
    result: Any
    if task == "about":
        result = {"about": peer.about()}
    elif task == "closeness":
        job = Job.read(Path(job_file))
        result = asdict(engine_closeness(peer.open_engine(job), job))
    elif hasattr(peer, "speed"):
        result = asdict(peer.speed(Job.read(Path(job_file)), bare))
    else:
        job = Job.read(Path(job_file))
        result = asdict(engine_speed(lambda: peer.open_engine(job), job, bare))
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
