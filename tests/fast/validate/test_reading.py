"""What the check of the reading says where transformers is missing, and which conversations it takes."""

from pathlib import Path
from typing import Any

import pytest

from satchel.cache import Cache
from satchel.compile.assets import TextAssets
from satchel.console import Console
from satchel.reference.prompt import PromptProgram, RoleForm
from satchel.report.reading import Reading
from satchel.source.checkpoint import ArrayCheckpoint, SourceInfo, TokenizerAssets
from satchel.tools import Tools
from satchel.validate.reading import TEXTS, conversations
from satchel.validate.readings import checked_reading, reading_key
from satchel.workshop import Workshop

FORM = RoleForm((1,), (2, "\n"), trim=False)
PROGRAM = PromptProgram("chat", {"system": FORM, "user": FORM, "assistant": FORM})


def checkpoint(place: Path | None) -> ArrayCheckpoint:
    source = SourceInfo("directory", "tiny", None, "ab" * 32, None)
    return ArrayCheckpoint("tiny", source, {}, TokenizerAssets("{}", None, None, None, None, ()), {}, place=place)


def assets(tokenizer: bytes = b"") -> TextAssets:
    stands_in: Any = None  # nothing is encoded here
    return TextAssets("{}", tokenizer, stands_in, PROGRAM)


def test_it_is_said_why_nobody_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(Cache(tmp_path), Tools(), Console.quiet())
    assert checked_reading(checkpoint(None), assets(), (), shop) == Reading(None, reason="it is in no file")
    monkeypatch.setattr("satchel.validate.readings.has_reference", lambda: True)
    monkeypatch.setattr("satchel.validate.readings._TOOLS", ("numpy", "no-such-package"))
    assert checked_reading(checkpoint(tmp_path), assets(), (), shop).reason == "no-such-package is not installed"
    monkeypatch.setattr("satchel.validate.readings.has_reference", lambda: False)
    found = checked_reading(checkpoint(tmp_path), assets(), (), shop)
    assert found.to_dict() == {"checked_by": None, "reason": "torch and transformers are not installed"}


def test_a_conversation_for_each_text_in_a_shape_that_the_template_takes() -> None:
    shapes = [[turn.role for turn in turns] for turns in conversations(PROGRAM, TEXTS)]
    assert shapes == [["system", "user"], ["user", "assistant", "user"], ["user"]]
    without_system = PromptProgram("chat", {"user": FORM, "assistant": FORM})
    shapes = [[turn.role for turn in turns] for turns in conversations(without_system, TEXTS)]
    assert shapes == [["user", "assistant", "user"], ["user", "assistant", "user"], ["user"]]
    assert [turns[-1].content for turns in conversations(without_system, TEXTS)] == list(TEXTS)


def test_a_comparison_is_made_again_when_anything_of_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satchel.validate.readings.found_here", lambda *_: {})  # no torch in this tier
    (tmp_path / "special_tokens_map.json").write_text("{}")
    (tmp_path / "old.safetensors").write_bytes(b"12")

    def key(text: bytes = b"", stop_ids: tuple[int, ...] = (2,)) -> str:
        return str(reading_key(checkpoint(tmp_path), tmp_path, assets(text), stop_ids))

    keys = [key(), key(text=b"other"), key(stop_ids=(3,))]
    (tmp_path / "special_tokens_map.json").write_text("{ }")
    keys.append(key())
    (tmp_path / "old.safetensors").write_bytes(b"123")
    keys.append(key())
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool.jinja").write_text("x")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[-1]


def test_what_is_kept_is_what_was_found() -> None:
    found = Reading("somebody", 3e-7, 2, True, ("numbers",))
    assert Reading.from_dict(found.to_dict()) == found
