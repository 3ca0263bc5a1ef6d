"""What the Kotlin library costs beside the engine: tokens/s of generate, of its TokenEngine, and of the C ABI below.

    python bench/kotlin_overhead.py BUNDLE [--rounds N] [--tokens N]

The three take turns within one run, so that whatever else the machine does hits all of them. Overhead is the median,
over rounds, of generate's time over that of bare `forward` calls with the same ids at the same places, just before it
in the same process.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from satchel.bundle.folder import read_bundle
from satchel.cache import Cache
from satchel.runtimes.jvm import build_host_engine
from satchel.tools import Tools

RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--c-abi", type=Path, help=argparse.SUPPRESS)  # the child process: folder of the libraries
    arguments = parser.parse_args()
    if arguments.c_abi is not None:
        c_abi(arguments.c_abi, arguments.bundle, arguments.tokens, arguments.rounds)
        return
    host = build_host_engine(Cache.default(), Tools())
    native, forward, generate, ratios = list[float](), list[float](), list[float](), list[float]()
    for _ in range(RUNS):
        child = [sys.executable, __file__, str(arguments.bundle), "--c-abi", str(host.native)]
        child += ["--rounds", str(arguments.rounds), "--tokens", str(arguments.tokens)]
        native += run(child)["seconds_per_token"]
        java = [str(Tools().java.executable), "-Xmx512m", f"-Dsatchel.host.dir={host.native}"]
        java += ["-cp", ":".join(map(str, host.class_path)), "dev.satchel.host.Overhead", str(arguments.bundle)]
        kotlin = run([*java, "--rounds", str(arguments.rounds), "--tokens", str(arguments.tokens)])
        forward += [seconds / kotlin["tokens"] for seconds in kotlin["forward_seconds"]]
        generate += [seconds / kotlin["tokens"] for seconds in kotlin["generate_seconds"]]
        pairs = zip(kotlin["generate_seconds"], kotlin["forward_seconds"], strict=True)
        ratios += [whole / bare for whole, bare in pairs]
    for name, seconds in (("C ABI", native), ("TokenEngine.forward", forward), ("SatchelModel.generate", generate)):
        speeds = sorted(1 / value for value in seconds)
        print(f"{name:24}{statistics.median(speeds):8.1f} tokens/s   {speeds[0]:.1f} to {speeds[-1]:.1f}")
    print(f"{'overhead over forward':24}{100 * (statistics.median(ratios) - 1):8.2f} %")


def run(command: list[str]) -> dict[str, Any]:
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def c_abi(native: Path, bundle: Path, tokens: int, rounds: int) -> None:
    """Feeds single tokens through the C ABI; in a process that has no other copy of the runtime's libraries."""
    read = read_bundle(bundle)
    ctypes.CDLL(str(native / "libsatchel_et_kernels.so"))
    library = ctypes.CDLL(str(native / "libsatchel_et.so"))
    module = ctypes.c_void_p()
    assert library.satchel_et_open(str(read.file("program")).encode(), 1, 1, ctypes.byref(module)) == 0
    logits = np.empty(read.manifest.vocab_size, np.float32)
    ids = np.random.default_rng(1).integers(0, read.manifest.vocab_size, tokens)
    seconds = []
    for _ in range(rounds + 1):  # the first round warms up
        start = time.perf_counter()
        for position, token in enumerate(ids):
            one = np.array([token], np.int64)
            error = library.satchel_et_forward(
                module,
                one.ctypes.data_as(ctypes.c_void_p),
                ctypes.c_int32(1),
                ctypes.c_int64(4 + position),
                logits.ctypes.data_as(ctypes.c_void_p),
                ctypes.c_size_t(logits.size),
            )
            assert error == 0, hex(error)
        seconds.append((time.perf_counter() - start) / tokens)
    print(json.dumps({"seconds_per_token": seconds[1:]}))


if __name__ == "__main__":
    main()
