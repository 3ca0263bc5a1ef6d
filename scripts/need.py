"""Fail early, in one sentence with the command to run, if a program that a make target needs is missing.

`python3 scripts/need.py maven cxx` (attributes of satchel.tools.Tools). Runs before anything is installed: standard
library only.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "exporter"))

from satchel.errors import SatchelError
from satchel.tools import Tools


def main() -> int:
    tools = Tools()
    try:
        for name in sys.argv[1:]:
            getattr(tools, name)
    except SatchelError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
