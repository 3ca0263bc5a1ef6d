"""Writes the conformance cases from the Python reference, or checks that the files are what it would write."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import errors, prompt, sampler, session, stop_strings, streaming, tokenizer

HERE = Path(__file__).parent

KINDS = (tokenizer, prompt, sampler, streaming, stop_strings, session, errors)


def files() -> dict[str, str]:
    """File name -> its content."""
    return {name: written(content) for kind in KINDS for name, content in kind.contents().items()}


def written(content: dict[str, Any]) -> str:
    """Sorted keys; one case a line, so that a change shows as the cases that changed."""
    lines = []
    for key, value in sorted(content.items()):
        if isinstance(value, list):
            items = ",\n".join(json.dumps(item, sort_keys=True) for item in value)
            lines.append(f"{json.dumps(key)}: [\n{items}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, sort_keys=True, indent=1)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(arguments: Sequence[str]) -> int:
    differing = []
    for name, content in files().items():
        path = HERE / name
        if arguments == ["--check"]:
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                differing.append(name)
        else:
            path.write_text(content, encoding="utf-8")
    if differing:
        sys.stderr.write(f"differ from the reference: {', '.join(differing)}; run python conformance/generate.py\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
