"""A build warns where no stop id ends the answers that the template writes."""

from types import SimpleNamespace
from typing import Any

import pytest

from satchel.commands.endings import ending_objection


def assets(kind: str = "chat", after: tuple[int | str, ...] = (7, "\n")) -> Any:
    roles = {"assistant": SimpleNamespace(after=after)} if kind == "chat" else {}
    return SimpleNamespace(program=SimpleNamespace(kind=kind, roles=roles))


@pytest.mark.parametrize(
    ("stops", "text"),
    [((7,), assets()), ((2, 7), assets()), ((2,), assets("raw")), ((2,), assets(after=("\n",)))],
)
def test_answers_that_end(stops: tuple[int, ...], text: Any) -> None:
    assert ending_objection(stops, text) == ""


def test_answers_that_do_not() -> None:
    assert "nothing ends an answer" in ending_objection((), assets("raw"))
    assert "ends an answer with the token 7, which is none of the stop ids [2, 3]" in ending_objection((2, 3), assets())
