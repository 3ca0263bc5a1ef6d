"""The peak of a process' memory, from what Linux says about it; and from the moment where nothing says it."""

import subprocess
import sys
from pathlib import Path

from satchel.runtimes.memory import child_peak, own_peak


def process(folder: Path, name: str, peak_kb: int) -> Path:
    """A process as /proc shows it."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "status").write_text(f"Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t   {peak_kb} kB\nVmRSS:\t 1 kB\n")
    return folder / name


def test_the_peak_counts_from_the_last_time_it_was_asked_for(tmp_path: Path) -> None:
    """What the process held at its largest before, while it lowered a model say, is not the program's."""
    clear = process(tmp_path, "self", 50_000_000) / "clear_refs"
    clear.write_bytes(b"")
    peak = own_peak(tmp_path)
    assert 0 < peak() < 50_000_000 * 1024
    assert clear.read_bytes() == b"5"
    clear.write_bytes(b"")
    process(tmp_path, "self", 3000)
    assert peak() == 3000 * 1024
    assert clear.read_bytes() == b"5"


def grown(script: str, *arguments: object) -> int:
    """What a small process of its own prints: in a large one, new arrays take the place of old ones."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


MEASURED = """
import os, sys
from pathlib import Path
import numpy as np
from satchel.runtimes.memory import child_peak, own_peak
processes = Path(sys.argv[1])
peak = own_peak(processes)
before = peak()
held = np.ones(8_000_000)
after = peak()
assert child_peak(os.getpid(), processes) > held.nbytes
print(after - before)
"""


def test_without_a_peak_it_is_what_is_held_now(tmp_path: Path) -> None:
    process(tmp_path, "self", 50_000_000)  # that can't be forgotten
    assert grown(MEASURED, tmp_path) > 0.9 * 64_000_000


def test_the_peak_of_another_process(tmp_path: Path) -> None:
    process(tmp_path, "17", 2000)
    assert child_peak(17, tmp_path) == 2000 * 1024


def test_memory_that_is_held_shows_here() -> None:
    assert grown(MEASURED, "/proc") > 0.9 * 64_000_000
