"""How long commands take that do no work: `python bench/startup.py [runs]`, with the satchel that is on the PATH.

Prints minimum, median and maximum of the wall time in seconds. `satchel --help` should stay under 0.4 s.
"""

import statistics
import subprocess
import sys
import time

COMMANDS = (["--help"], ["models"], ["recipes"])


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for words in COMMANDS:
        seconds = []
        for _ in range(runs):
            started = time.perf_counter()
            subprocess.run(["satchel", *words], stdout=subprocess.DEVNULL, check=True)
            seconds.append(time.perf_counter() - started)
        figures = f"{min(seconds):.3f}  {statistics.median(seconds):.3f}  {max(seconds):.3f}"
        print(f"satchel {' '.join(words):10} {figures}")


if __name__ == "__main__":
    main()
