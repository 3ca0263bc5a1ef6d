"""Satchel's artifacts beside what users would pick instead: `python bench/compare.py`, or `make bench`.

Needs the bundles of a build for both backends, and the bench environment (the Makefile makes it). Writes
docs/benchmarks.md and docs/benchmarks.svg, and every measured value to BUILD/bench/results.json.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peers import page
from peers.job import Job
from peers.litert_lm_export import PACKED, PROGRAM
from peers.roster import PEERS
from peers.runner import Interpreters, rounds, run
from satchel.bundle.folder import Bundle, find_bundles
from satchel.cache import Cache
from satchel.hashing import file_sha256
from satchel.reference.prompt import PromptProgram
from satchel.reference.tokenizer import Tokenizer
from satchel.runtimes.jvm import build_native
from satchel.source.alias import aliases
from satchel.source.checkpoint import Checkpoint
from satchel.source.fetch import fetch
from satchel.source.resolve import open_model
from satchel.tools import Tools
from satchel.validate.texts import Evaluation, evaluation_texts

ROOT = Path(__file__).resolve().parent.parent
THREADS = (1, 2)
WEIGHTS_CACHE = "weights-cache"
PROMPT_TOKENS, ANSWER_TOKENS, PROMPTS = 256, 48, 2


def main() -> None:
    arguments = _arguments()
    cache, tools, work = Cache.default(), Tools(), arguments.build / "bench"
    (work / WEIGHTS_CACHE).mkdir(parents=True, exist_ok=True)
    bundles = {bundle.manifest.backend: bundle for bundle in find_bundles(arguments.build / "bundle")}
    checkpoint = open_model(arguments.model, cache, tools)
    _require_same_model(bundles, checkpoint, arguments)
    interpreters = Interpreters(Path(sys.executable), arguments.environment / "bin/python", arguments.environment)

    files = _files(bundles, checkpoint, arguments.model, work, cache, tools)
    texts = _texts(bundles["executorch"])
    jobs = _jobs(files, texts, bundles["executorch"], work, build_native(cache, tools), arguments.environment)
    about = {peer.key: run(peer, "about", jobs[peer.key], interpreters)["about"] for peer in PEERS}
    closeness = _closeness(files, about, texts, checkpoint, jobs, interpreters, work)
    before = os.getloadavg()
    started = time.time()
    records = rounds(PEERS, jobs, THREADS, arguments.rounds, interpreters, _say)
    results = {
        "model": checkpoint.model_id,
        "recipe": bundles["executorch"].manifest.recipe,
        "context_length": bundles["executorch"].manifest.context_length,
        "tokens": {"prompt": PROMPT_TOKENS, "answer": ANSWER_TOKENS, "prompts": PROMPTS},
        "rounds": arguments.rounds,
        "machine": _machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "seconds": time.time() - started,
        "load_before": before,
        "load_after": os.getloadavg(),
        "bytes": {name: path.stat().st_size for name, path in files.items()},
        "about": about,
        "closeness": closeness,
        "speed": records,
    }
    (work / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    page.write(results, ROOT / "docs" / "benchmarks.md")
    plot = [str(interpreters.bench), str(ROOT / "bench/peers/plot.py")]
    subprocess.run([*plot, str(work / "results.json"), str(ROOT / "docs/benchmarks.svg")], check=True, env=_paths())


def _absolute(text: str) -> Path:
    """Node and the peers' own processes are given these; a symbolic link, as a venv's python is one, stays one."""
    return Path(text).absolute()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="what the bundles were built from: a GGUF")
    parser.add_argument("--build", type=_absolute, default="build", help="folder of the build")
    parser.add_argument("--environment", type=_absolute, default=ROOT / ".venv-bench", help="the bench environment")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _require_same_model(bundles: Mapping[str, Bundle], checkpoint: Checkpoint, arguments: argparse.Namespace) -> None:
    for backend in ("executorch", "litert"):
        if backend not in bundles:
            raise SystemExit(f"{arguments.build} has no {backend} bundle: run `make android` first")
        if bundles[backend].manifest.model.source.sha256 != checkpoint.source.sha256:
            raise SystemExit(f"The {backend} bundle was not built from {arguments.model}: build it again")
    if checkpoint.source.kind != "gguf":
        raise SystemExit(f"llama.cpp reads GGUF files, and {arguments.model} is none")


def _files(
    bundles: Mapping[str, Bundle], checkpoint: Checkpoint, model: str, work: Path, cache: Cache, tools: Tools
) -> dict[str, Path]:
    """What the peers load. LiteRT-LM's export is made if it is not there: minutes, and 4 GB of memory."""
    litert = bundles["litert"]
    exported = work / f"litert-lm-{checkpoint.source.sha256[:12]}-{litert.manifest.context_length}"
    if not exported.is_dir():
        _say("LiteRT-LM's export of the same model; minutes, but only once")
        export = [sys.executable, str(ROOT / "bench/peers/litert_lm_export.py")]
        with (work / "export.log").open("w") as log:
            subprocess.run(
                [*export, model, str(litert.manifest.context_length), str(exported)],
                check=True,
                env=_paths(),
                stdout=log,
                stderr=log,
            )
    return {
        "pte": bundles["executorch"].file("program"),
        "tflite": litert.file("program"),
        "litertlm": litert.file("litertlm"),
        "export_tflite": exported / PROGRAM,
        "export_litertlm": exported / PACKED,
        "gguf": fetch(aliases()[model], cache, tools) if model in aliases() else Path(model),
    }


def _texts(bundle: Bundle) -> Evaluation:
    tokenizer = Tokenizer.from_bytes(bundle.file("tokenizer").read_bytes())
    prompts = PromptProgram.from_json(bundle.file("prompt").read_text(encoding="utf-8"))
    return evaluation_texts(tokenizer, prompts if prompts.kind != "raw" else None, bundle.manifest.context_length)


def _jobs(
    files: Mapping[str, Path], texts: Evaluation, bundle: Bundle, work: Path, libraries: Path, packages: Path
) -> dict[str, Job]:
    """Every peer's job for one thread. The prompts are the beginnings of the longest evaluation texts."""
    longest = sorted(texts.texts, key=lambda text: len(text.ids), reverse=True)[:PROMPTS]
    ids = [[int(token) for token in text.ids[: PROMPT_TOKENS + ANSWER_TOKENS]] for text in longest]
    if len(ids) < PROMPTS or min(map(len, ids)) < PROMPT_TOKENS + ANSWER_TOKENS:
        raise SystemExit(f"{PROMPTS} texts of {PROMPT_TOKENS + ANSWER_TOKENS} tokens are needed: build with --context")
    return {
        peer.key: Job(
            file=str(files[peer.file].resolve()),
            threads=1,
            context_length=bundle.manifest.context_length,
            chunk=bundle.manifest.prefill_chunk,
            prompts=[one[:PROMPT_TOKENS] for one in ids],
            answers=[one[PROMPT_TOKENS:] for one in ids],
            texts=str((work / "reference").resolve()),
            libraries=str(libraries),
            packages=str(packages.resolve()),
            cache=str((work / WEIGHTS_CACHE).resolve()),
        )
        for peer in PEERS
    }


def _closeness(
    files: Mapping[str, Path],
    about: Mapping[str, str],
    texts: Evaluation,
    checkpoint: Checkpoint,
    jobs: Mapping[str, Job],
    interpreters: Interpreters,
    work: Path,
) -> dict[str, Any]:
    """Peer -> what its worker says. Kept: a file and a program that were judged on these texts are not judged again."""
    kept_file = work / "closeness.json"
    kept = json.loads(kept_file.read_text(encoding="utf-8")) if kept_file.is_file() else {}
    keys = {
        peer.key: f"{peer.key} {file_sha256(files[peer.file])} {about[peer.key]} {_hash(texts)}"
        for peer in PEERS
        if peer.measures_closeness
    }
    missing = [peer for peer in PEERS if peer.key in keys and keys[peer.key] not in kept]
    reference = work / "reference"
    try:
        if missing:
            _write_reference(reference, texts, checkpoint)
        for peer in missing:
            kept[keys[peer.key]] = run(peer, "closeness", jobs[peer.key], interpreters)
            kept_file.write_text(json.dumps(kept, indent=1), encoding="utf-8")
            _say(f"{peer.key}: {kept[keys[peer.key]]}")
    finally:
        shutil.rmtree(reference, ignore_errors=True)
    return {key: kept[known] for key, known in keys.items()}


def _write_reference(folder: Path, texts: Evaluation, checkpoint: Checkpoint) -> None:
    """Ids and the float model's logits of every text."""
    from satchel.validate.reference import Reference

    _say("The float model reads the evaluation texts")
    reference = Reference(checkpoint.config, checkpoint.read)
    folder.mkdir(exist_ok=True)
    for index, text in enumerate(texts.all):
        np.save(folder / f"{index}.ids.npy", text.ids)
        np.save(folder / f"{index}.logits.npy", reference.logits(text.ids))


def _hash(texts: Evaluation) -> str:
    return hashlib.sha256(b"".join(text.ids.tobytes() for text in texts.all)).hexdigest()


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    flags = known["flags"].split()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": known["model name"],
        "model": f"family {known['cpu family']}, model {known['model']}",
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "virtual": "hypervisor" in flags,
        "features": [name for name in FEATURES if name in flags],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "real_time": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
    }


FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16")


def _paths() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "exporter"), str(ROOT / "bench")))}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
