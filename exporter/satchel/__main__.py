"""`python -m satchel`: the `satchel` command."""

from satchel.cli import entry

entry()
