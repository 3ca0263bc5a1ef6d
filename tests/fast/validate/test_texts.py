"""What behaviour is measured on: Satchel's own texts and a user's, as ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satchel.errors import UsageError
from satchel.validate.behaviour import Position, Text
from satchel.validate.figures import NextWord
from satchel.validate.texts import evaluation_texts, excerpts, user_texts


class Letters:
    """A tokenizer: one id per character."""

    def encode(self, text: str, special: bool) -> list[int]:
        assert not special  # a text never matches a special token
        return [ord(character) for character in text]

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


LETTERS: Any = Letters()


def file(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_files_of_one_name_are_all_measured(tmp_path: Path) -> None:
    """Results are kept by name: two texts of one name would be one."""
    one, two = file(tmp_path / "a" / "x.txt", "first"), file(tmp_path / "b" / "x.txt", "second!")
    other = file(tmp_path / "y.txt", "third")
    found = user_texts([one, two, other], LETTERS, 100)
    assert {text.name: len(text.ids) for text in found} == {str(one): 5, str(two): 7, "y.txt": 5}


def test_a_file_named_twice_counts_once(tmp_path: Path) -> None:
    one = file(tmp_path / "x.txt", "first")
    assert len(user_texts([one, one], LETTERS, 100)) == 1


def test_a_long_text_becomes_several(tmp_path: Path) -> None:
    found = user_texts([file(tmp_path / "x.txt", "abcdefghi")], LETTERS, 4)
    assert [(text.name, "".join(map(chr, text.ids))) for text in found] == [("x.txt", "abcd"), ("x.txt 2", "efgh")]
    assert all(text.ids.dtype == np.int64 for text in found)  # "i" alone predicts nothing


@pytest.mark.parametrize(("content", "named"), [(b"a", "1 tokens"), (b"", "0 tokens"), (b"\xff\xfe", "not UTF-8")])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UsageError, match=rf"x\.txt.*{named}"):
        user_texts([tmp_path / "x.txt"], LETTERS, 100)


def test_a_model_without_a_template_is_measured_on_everything_but_conversations() -> None:
    names = {text.name.split()[0] for text in evaluation_texts(LETTERS, None, 2048)}
    assert names >= {"prose", "code", "lists", "numbers"}
    assert "chat" not in names


def test_a_position_in_words() -> None:
    text = Text("t", np.frombuffer("a ship, né".encode(), np.uint8).astype(np.int64))
    position = Position("t", 1, False, 0.5, ((0x73, 0.9), (0x0A, 0.1)), ((0xC3, 0.7),))
    (found,) = excerpts([position], [text], LETTERS)
    assert (found.text, found.position, found.before, found.following) == ("t", 1, "a ", "s")
    assert found.original == (NextWord("s", 0.9), NextWord("\n", 0.1))
    assert found.packaged == (NextWord(r"\xc3", 0.7),)  # half a character
    (last,) = excerpts([Position("t", len(text.ids) - 1, True, 0.5, (), ())], [text], LETTERS)
    assert (last.before, last.following) == ("a ship, né", None)


def test_a_long_text_is_shown_from_a_whole_character_on() -> None:
    text = Text("t", np.frombuffer(("é" * 40).encode(), np.uint8).astype(np.int64))
    (found,) = excerpts([Position("t", 60, False, 0.5, (), ())], [text], LETTERS)
    assert found.before == "…" + "é" * 19 + r"\xc3"  # 40 bytes, of which the first ends a character
    assert found.following == r"\xa9"
