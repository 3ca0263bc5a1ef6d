"""Runs the conformance cases in every language there is and prints language x kind: passed, failed (make conformance).

Python: a case passes if the reference still gives it. Kotlin: Maven runs the tests, which write down how many cases of
each list passed.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "sdk_templates" / "android" / "core"
KINDS = {
    "encode.json": "tokenizer",
    "decode.json": "tokenizer",
    "prompt.json": "prompt",
    "sampler.json": "sampler",
    "streaming.json": "streaming",
    "stop_strings.json": "stop strings",
    "session.json": "session",
    "errors.json": "errors",
}
Tally = dict[str, Counter[str]]


def python_tally() -> Tally:
    """Compares each committed case with what the reference gives now."""
    sys.path.insert(0, str(ROOT / "conformance"))
    import generate  # type: ignore[import-not-found]  # on the path since the line before

    tally: Tally = {}
    for name, content in generate.files().items():
        if name in KINDS:
            actual: dict[str, Any] = json.loads(content)
            for key, cases in json.loads((ROOT / "conformance" / name).read_text(encoding="utf-8")).items():
                if isinstance(cases, list):
                    add(tally, name, sum(a == b for a, b in zip(cases, actual[key], strict=True)), len(cases))
    return tally


def kotlin_tally(maven: list[str]) -> Tally:
    """Runs the tests of the core and reads what they wrote; a list that no test wrote down is missing, not passed."""
    results = CORE / "target" / "conformance"
    for old in results.glob("*.json"):
        old.unlink()
    command = [*maven, "--quiet", "--file", str(ROOT / "sdk_templates" / "pom.xml"), "-pl", "android/core"]
    run = subprocess.run(
        [*command, "-Dkotlin.compiler.daemon=false", "-Dtest=*ConformanceTest", "test"],
        capture_output=True,
        text=True,
        check=False,
    )
    tally: Tally = {}
    for path in sorted(results.glob("*.json")):
        counts = json.loads(path.read_text(encoding="utf-8"))
        if counts["file"] in KINDS:
            add(tally, counts["file"], counts["passed"], counts["passed"] + counts["failed"])
    if not tally:
        sys.stderr.write(run.stdout + run.stderr)
    return tally


def add(tally: Tally, file: str, passed: int, cases: int) -> None:
    tally.setdefault(KINDS[file], Counter()).update(passed=passed, failed=cases - passed)


def main(maven: list[str]) -> int:
    tallies = {"Python": python_tally(), "Kotlin": kotlin_tally(maven)}
    sys.stdout.write(f"{'':14}" + "".join(f"{language:>10}{'':>8}" for language in tallies) + "\n")
    sys.stdout.write(f"{'kind':14}" + f"{'passed':>10}{'failed':>8}" * len(tallies) + "\n")
    complete = True
    for kind in dict.fromkeys(KINDS.values()):
        row = [tally.get(kind, Counter()) for tally in tallies.values()]
        sys.stdout.write(f"{kind:14}" + "".join(f"{c['passed']:>10}{c['failed']:>8}" for c in row) + "\n")
        complete &= len({c.total() for c in row}) == 1 and all(c["passed"] > 0 and c["failed"] == 0 for c in row)
    if not complete:
        sys.stderr.write("not every case passed in every language\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
