"""Peaks of resident memory, as Linux keeps them: VmHWM in /proc/<pid>/status; a 5 in clear_refs forgets it (proc(5)).

Where no peak is kept, on a Mac, what a process holds at the moment takes its place.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

_PROCESSES = Path("/proc")


def own_peak(processes: Path = _PROCESSES) -> Callable[[], int]:
    """A function that says, in bytes of resident memory: first what this process holds now, and whenever it is asked
    again, the most it has held since the last time.
    """
    process, known = processes / "self", False

    def peak() -> int:
        nonlocal known
        held = _peak(process) if known else None
        known = _forget_peak(process)
        return _now(os.getpid()) if held is None else held

    return peak


def child_peak(pid: int, processes: Path = _PROCESSES) -> int:
    """The most bytes that the process has ever held; what it holds now where no peak is kept."""
    held = _peak(processes / str(pid))
    return _now(pid) if held is None else held


def _now(pid: int) -> int:
    import psutil

    return int(psutil.Process(pid).memory_info().rss)


def _peak(process: Path) -> int | None:
    try:
        status = (process / "status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _forget_peak(process: Path) -> bool:
    """True if the peak counts from now on."""
    try:
        descriptor = os.open(process / "clear_refs", os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(descriptor, b"5")
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
