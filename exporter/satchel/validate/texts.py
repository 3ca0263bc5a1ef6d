"""The texts that behaviour is measured on, Satchel's own or a user's files, and places in them in words."""

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from satchel.errors import UsageError
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.tokenizer import Tokenizer
from satchel.report.figures import Excerpt, NextWord
from satchel.validate.behaviour import Position, Text

_CONTEXT = 40  # tokens of text that an excerpt shows before its position


def evaluation_texts(tokenizer: Tokenizer, program: PromptProgram | None, context_length: int) -> list[Text]:
    """The built-in evaluation texts as ids, each cut to the context. Conversations go through the prompt program and
    are left out if the model has none. Every text begins with the tokenizer's start ids."""
    folder = resources.files("satchel.resources") / "text" / "evaluation"
    texts = []
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name, content = file.name.rpartition(".")[0], file.read_text(encoding="utf-8")
        if file.name.endswith(".txt"):
            texts.append((name, tokenizer.encode(content, special=False)))
        elif file.name.endswith(".json") and program is not None:
            texts.append((name, [i for turns in _conversations(content) for i in _answered(turns, tokenizer, program)]))
    return list(_cut(texts, context_length, tokenizer))


def user_texts(files: Sequence[Path], tokenizer: Tokenizer, context_length: int) -> list[Text]:
    """A user's UTF-8 files as ids. Raises UsageError if a file has fewer than two tokens or is not UTF-8.

    A text is named like its file, or by the whole path where two files have the same name.
    """
    texts = []
    names = [file.name for file in files]
    for file in dict.fromkeys(files):
        try:
            ids = tokenizer.encode(file.read_text(encoding="utf-8"), special=False)
        except UnicodeDecodeError as error:
            raise UsageError(f"--text {file} is not UTF-8 text ({error.reason}): convert it") from error
        if len(ids) < 2:
            raise UsageError(f"--text {file} has {len(ids)} tokens: at least 2 are needed to predict one")
        texts.append((file.name if names.count(file.name) == 1 else str(file), ids))
    return list(_cut(texts, context_length, tokenizer))


def excerpts(positions: Sequence[Position], texts: Sequence[Text], tokenizer: Tokenizer) -> tuple[Excerpt, ...]:
    """The positions, which must lie in these texts, in words."""
    ids_of = {text.name: text.ids.tolist() for text in texts}
    return tuple(_excerpt(position, ids_of[position.text], tokenizer) for position in positions)


def _excerpt(position: Position, ids: list[int], tokenizer: Tokenizer) -> Excerpt:
    end = position.index + 1
    start = max(0, end - _CONTEXT)
    first, last = _whole_characters(tokenizer, ids, start, end)

    def word(token: int) -> str:
        return _word(tokenizer, ids[last:end], token)

    return Excerpt(
        text=position.text,
        position=position.index,
        in_chunk=position.in_chunk,
        kl=position.kl,
        before=("…" if start else "") + tokenizer.decode(ids[first:last]),
        following=word(ids[end]) if end < len(ids) else None,
        original=tuple(NextWord(word(token), share) for token, share in position.original),
        packaged=tuple(NextWord(word(token), share) for token, share in position.packaged),
    )


def _whole_characters(tokenizer: Tokenizer, ids: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """The longest part of ids[start:end] that neither begins nor ends inside a character, which has up to four."""
    borders = [
        (first, last) for first in range(start, min(start + 4, end)) for last in range(end, max(end - 4, first), -1)
    ]
    return min(borders, key=lambda part: (tokenizer.decode(ids[part[0] : part[1]]).count("\ufffd"), part[0] - part[1]))


def _word(tokenizer: Tokenizer, unfinished: Sequence[int], token: int) -> str:
    """What a token adds to a text; its bytes where that is no whole character.

    unfinished: the ids before it that have begun a character.
    """
    before = tokenizer.encode("a", special=False, at_start=False)  # the first token of a text may lose a blank
    word = tokenizer.decode([*before, *unfinished, token]).removeprefix(tokenizer.decode(before))
    return word if "\ufffd" not in word else tokenizer.token_bytes(token).decode("utf-8", errors="backslashreplace")


def _cut(texts: Sequence[tuple[str, list[int]]], context_length: int, tokenizer: Tokenizer) -> Iterator[Text]:
    """Texts longer than the context become several; each begins with the start ids, once."""
    opening = list(tokenizer.start_ids)
    room = context_length - len(opening)
    for name, ids in texts:
        if opening and ids[: len(opening)] == opening:
            ids = ids[len(opening) :]
        for part, start in enumerate(range(0, len(ids), room)):
            piece = opening + ids[start : start + room]
            if len(piece) > 1:
                size = len(tokenizer.decode(piece).encode()) - len(tokenizer.decode(piece[:1]).encode())
                yield Text(name if part == 0 else f"{name} {part + 1}", np.array(piece, np.int64), size)


def _answered(turns: Sequence[Turn], tokenizer: Tokenizer, program: PromptProgram) -> list[int]:
    """The ids of a conversation that ends with an answer.

    Where the template writes it only up to a user turn, they are those that a session feeds: the prompt, the answer and
    what ends the turn. A system turn is left out if the template has none.
    """
    turns = [turn for turn in turns if turn.role in program.roles]
    if program.objection(turns, generation_prompt=False) is None:
        return program.encode(tokenizer, turns, generation_prompt=False)
    ids = program.encode(tokenizer, turns[:-1])
    for part in (turns[-1].content, *program.roles["assistant"].after):
        ids += [part] if isinstance(part, int) else tokenizer.encode(part, special=False, at_start=False)
    return ids


def _conversations(content: str) -> Iterator[list[Turn]]:
    for conversation in json.loads(content):
        yield [Turn(turn["role"], turn["content"]) for turn in conversation]
