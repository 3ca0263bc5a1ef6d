"""What behaviour is measured on: Satchel's own texts and a user's, as ids."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases.tokenizer import TOKENIZERS
from satchel.errors import UsageError
from satchel.reference.prompt import PromptProgram, RoleForm
from satchel.report.figures import NextWord
from satchel.validate.excerpts import excerpts
from satchel.validate.fidelity import Position
from satchel.validate.texts import WHOLE_CONTEXT, Text, evaluation_texts, user_texts


class Letters:
    """A tokenizer: one id per character."""

    start_ids = ()

    def encode(self, text: str, special: bool) -> list[int]:
        assert not special  # a text never matches a special token
        return [ord(character) for character in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


LETTERS: Any = Letters()
BYTES = TOKENIZERS["chat"]
PIECES = TOKENIZERS["sentencepiece"]  # opens every text with <s>
SYSTEM, USER, ASSISTANT = 305, 306, 304


def file(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_files_of_one_name_are_all_measured(tmp_path: Path) -> None:
    """Results are kept by name: two texts of one name would be one."""
    one, two = file(tmp_path / "a" / "x.txt", "first"), file(tmp_path / "b" / "x.txt", "second!")
    other = file(tmp_path / "y.txt", "third")
    found = user_texts([one, two, other], LETTERS, 100).texts
    assert {text.name: len(text.ids) for text in found} == {str(one): 5, str(two): 7, "y.txt": 5}


def test_a_file_that_is_named_like_the_text_that_fills_the_context_is_another(tmp_path: Path) -> None:
    found = user_texts([file(tmp_path / WHOLE_CONTEXT, "first")], LETTERS, 100)
    assert [text.name for text in found.all] == [str(tmp_path / WHOLE_CONTEXT), WHOLE_CONTEXT]


def test_a_file_named_twice_counts_once(tmp_path: Path) -> None:
    one = file(tmp_path / "x.txt", "first")
    assert len(user_texts([one, one], LETTERS, 100).texts) == 1


def test_a_long_text_becomes_several(tmp_path: Path) -> None:
    found = user_texts([file(tmp_path / "x.txt", "abcdefghi")], LETTERS, 4).texts
    assert [(text.name, "".join(map(chr, text.ids))) for text in found] == [("x.txt", "abcd"), ("x.txt 2", "efgh")]
    assert all(text.ids.dtype == np.int64 for text in found)  # "i" alone predicts nothing


def test_a_text_knows_how_many_bytes_are_predicted(tmp_path: Path) -> None:
    (text,) = user_texts([file(tmp_path / "x.txt", "aéß€😀")], LETTERS, 100).texts
    assert text.bytes == len("éß€😀".encode())  # nothing predicts the first one
    (text,) = user_texts([file(tmp_path / "x.txt", "The Capital")], PIECES, 100).texts
    assert text.bytes == len(" The Capital")  # what opens the text is no part of it


@pytest.mark.parametrize(("content", "named"), [(b"a", "1 tokens"), (b"", "0 tokens"), (b"\xff\xfe", "not UTF-8")])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UsageError, match=rf"x\.txt.*{named}"):
        user_texts([tmp_path / "x.txt"], LETTERS, 100)


def test_a_model_without_a_template_is_measured_on_everything_but_conversations() -> None:
    names = {text.name.split()[0] for text in evaluation_texts(LETTERS, None, 2048).texts}
    assert names >= {"prose", "code", "lists", "numbers"}
    assert "chat" not in names


def test_one_text_fills_the_context_with_paragraphs_by_turns(tmp_path: Path) -> None:
    one, two = file(tmp_path / "x", "aa\n\nbb\n\ncc"), file(tmp_path / "y", "dd\n\nee\n")
    whole = user_texts([one, two], LETTERS, 26).whole
    assert whole.name == WHOLE_CONTEXT
    assert "".join(map(chr, whole.ids)) == "aa\n\ndd\n\nbb\n\nee\n\ncc\n\naa\n\ndd"
    assert whole.bytes == 25


@pytest.mark.parametrize("context", [32, 2048, 40_000])
def test_the_built_in_texts_fill_any_context(context: int) -> None:
    for tokenizer in (LETTERS, BYTES, PIECES):
        whole = evaluation_texts(tokenizer, None, context).whole
        assert len(whole.ids) == context
        assert whole.ids[: len(tokenizer.start_ids)].tolist() == list(tokenizer.start_ids)


def test_a_self_test_repeats_plain_prose() -> None:
    golden = evaluation_texts(LETTERS, None, 2048).golden
    assert golden.name == "prose"


def test_every_text_and_every_part_of_it_opens_with_the_start_ids(tmp_path: Path) -> None:
    """A model that was trained with a beginning-of-text token measures badly without."""
    (start,) = PIECES.start_ids
    found = user_texts([file(tmp_path / "x.txt", "the world, the world")], PIECES, 5).texts
    assert len(found) > 1
    assert all(text.ids[0] == start and len(text.ids) <= 5 for text in found)
    ids = [token for text in found for token in text.ids[1:].tolist()]
    assert ids == PIECES.encode("the world, the world", special=False)


def test_what_opens_a_conversation_is_not_put_before_it_twice() -> None:
    (start,) = PIECES.start_ids
    form = RoleForm((), ("\n",), trim=False)
    program = PromptProgram("chat", {"system": form, "user": form, "assistant": form}, prefix=(start,))
    chat = next(text for text in evaluation_texts(PIECES, program, 100_000).texts if text.name == "chat")
    assert chat.ids[0] == start
    assert chat.ids[1] != start


def chat_ids(program: PromptProgram) -> list[int]:
    texts = evaluation_texts(BYTES, program, 100_000).texts
    return next(text for text in texts if text.name == "chat").ids.tolist()


def test_conversations_that_a_template_ends_with_a_user_turn_are_fed_as_a_session_does() -> None:
    """The prompt, the generation prompt, the answer and what ends it: here the same ids, since the program could."""
    form = RoleForm((SYSTEM,), (USER,), trim=False)
    answer = RoleForm((ASSISTANT,), (USER,), trim=False)
    roles = {"system": form, "user": form, "assistant": answer}
    program = PromptProgram("chat", roles, generation_prompt=(ASSISTANT,))
    assert chat_ids(replace(program, last="user")) == chat_ids(program)


def test_a_template_without_system_turns_is_measured_without_them() -> None:
    form = RoleForm((), (USER,), trim=False)
    program = PromptProgram("chat", {"user": form, "assistant": form})
    with_system = replace(program, roles={**program.roles, "system": form})
    assert 0 < len(chat_ids(program)) < len(chat_ids(with_system))


def test_a_position_in_words() -> None:
    ids = BYTES.encode("a ship, n\u00fc", special=False)
    text = Text("t", np.array(ids, np.int64))
    half, other_half = BYTES.encode("\u00fc", special=False)
    position = Position("t", 1, False, 0.5, ((ids[2], 0.9), (SYSTEM, 0.1)), ((half, 0.7), (BYTES.vocab_size, 0.1)))
    (found,) = excerpts([position], [text], BYTES)
    assert (found.text, found.position, found.before) == ("t", 1, BYTES.decode(ids[:2]))
    assert found.following == BYTES.decode(ids[2:3])
    assert found.original == (NextWord(found.following, 0.9), NextWord(BYTES.decode([SYSTEM]), 0.1))
    assert found.packaged == (NextWord(r"\xc3", 0.7), NextWord("", 0.1))  # half a character; an id without a token
    (last,) = excerpts([Position("t", len(ids) - 1, True, 0.5, (), ())], [text], BYTES)
    assert (last.before, last.following) == ("a ship, n\u00fc", None)
    (inside,) = excerpts([Position("t", len(ids) - 2, True, 0.5, ((other_half, 1.0),), ())], [text], BYTES)
    assert (inside.before, inside.following) == ("a ship, n", "\u00fc")  # a character is shown where it is complete
    assert inside.original == (NextWord("\u00fc", 1.0),)


def test_pieces_are_shown_as_the_text_that_they_are() -> None:
    """Not with the mark that stands for a blank, nor as byte tokens."""
    ids = [*PIECES.start_ids, *PIECES.encode("Hello world \U0001f600 the", special=False)]
    text = Text("t", np.array(ids, np.int64))
    words = [excerpts([Position("t", index, False, 0.5, (), ())], [text], PIECES)[0] for index in range(len(ids))]
    assert words[-1].before == "<s> Hello world \U0001f600 the"
    assert "".join(word.following or "" for word in words[:-1]) == " Hello world <0xF0><0x9F><0x98>\U0001f600 the"
    assert not any("\u2581" in (word.following or "") or "\ufffd" in word.before for word in words)


def test_a_long_text_is_shown_from_a_whole_character_on() -> None:
    for tokenizer in (BYTES, PIECES):
        ids = tokenizer.encode("\U0001f600" * 40, special=False)
        positions = [Position("t", index, False, 0.5, (), ()) for index in range(50, 60)]
        for found in excerpts(positions, [Text("t", np.array(ids, np.int64))], tokenizer):
            assert found.before.startswith("…\U0001f600")
            assert set(found.before) == {"…", "\U0001f600"}
