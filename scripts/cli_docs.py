"""docs/cli.md from `satchel --help`: `python scripts/cli_docs.py` writes it, `--check` fails if it is out of date."""

import sys
from pathlib import Path

import click

from satchel.cli import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = 100  # columns, whatever the terminal that runs this
INTRODUCTION = """\
# The command line

Written by `make docs` from the commands' own help; `make check` fails if it is out of date.

Wherever a command takes BUNDLE it takes one bundle folder (`build/bundle/executorch`) or the folder above
(`build/bundle`): `validate` and `inspect` then mean all of them, `generate` needs `--backend` if there are several.
The cache is `$SATCHEL_CACHE`, else the platform's cache folder. With `--json`, standard output carries one JSON object
and everything else goes to standard error.
"""


def page() -> str:
    root = click.Context(cli, info_name="satchel", terminal_width=WIDTH, help_option_names=["-h", "--help"])
    parts = [INTRODUCTION, _section("satchel", root)]
    for name, command in sorted(cli.commands.items()):
        context = click.Context(command, info_name=name, parent=root, terminal_width=WIDTH)
        parts.append(_section(f"satchel {name}", context))
    return "\n".join(parts)


def _section(title: str, context: click.Context) -> str:
    lines = (line.rstrip() for line in context.get_help().splitlines())
    return f"## {title}\n\n```text\n" + "\n".join(lines) + "\n```\n"


def main() -> int:
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        print("docs/cli.md is out of date. Run: make docs", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
