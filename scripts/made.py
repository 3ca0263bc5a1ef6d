"""Whose a folder is that make targets write to: `python3 scripts/made.py claim|mark|remove FOLDER`.

claim: fails with exit 2 if FOLDER holds what Satchel did not make, else marks it. mark: what FOLDER holds now was made
by Satchel. remove: takes away what builds, the example app and the API's pages left in FOLDER, and nothing else. Runs
before anything is installed: standard library only.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "exporter"))

from satchel.bundle.output import remove_output
from satchel.errors import SatchelError
from satchel.files import is_marked, mark, require_replaceable

_OTHERS = ("example-android", "docs")  # beside what builds publish


def claim(folder: Path) -> None:
    if not is_marked(folder):  # one that is keeps its name when a run that was killed has left files in it
        require_replaceable(folder)
        folder.mkdir(parents=True, exist_ok=True)
    mark(folder)


def remove(folder: Path) -> None:
    for name in _OTHERS:
        require_replaceable(folder / name)
    for name in _OTHERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    remove_output(folder)


def main() -> int:
    verb, folder = sys.argv[1], Path(sys.argv[2])
    try:
        {"claim": claim, "mark": mark, "remove": remove}[verb](folder)
    except SatchelError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
