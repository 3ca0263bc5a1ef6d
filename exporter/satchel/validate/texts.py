"""The texts that behaviour is measured on, Satchel's own or a user's files, and places in them in words."""

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from satchel.errors import UsageError
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.tokenizer import Tokenizer
from satchel.validate.behaviour import Position, Text
from satchel.validate.figures import Excerpt, NextWord

_CONTEXT = 40  # tokens of text that an excerpt shows before its position


def evaluation_texts(tokenizer: Tokenizer, program: PromptProgram | None, context_length: int) -> list[Text]:
    """The built-in evaluation texts as ids, each cut to the context. Conversations go through the prompt program and
    are left out if the model has none."""
    folder = resources.files("satchel.resources") / "text" / "evaluation"
    texts = []
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name, content = file.name.rpartition(".")[0], file.read_text(encoding="utf-8")
        if file.name.endswith(".txt"):
            texts.append((name, tokenizer.encode(content, special=False)))
        elif file.name.endswith(".json") and program is not None:
            texts.append(
                (name, [i for turns in _conversations(content) for i in program.encode(tokenizer, turns, False)])
            )
    return list(_cut(texts, context_length))


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
    return list(_cut(texts, context_length))


def excerpts(positions: Sequence[Position], texts: Sequence[Text], tokenizer: Tokenizer) -> tuple[Excerpt, ...]:
    """The positions, which must lie in these texts, in words."""
    ids_of = {text.name: text.ids.tolist() for text in texts}
    return tuple(_excerpt(position, ids_of[position.text], tokenizer) for position in positions)


def _excerpt(position: Position, ids: list[int], tokenizer: Tokenizer) -> Excerpt:
    end = position.index + 1
    start = max(0, end - _CONTEXT)
    before = b"".join(tokenizer.token_bytes(token) for token in ids[start:end])
    while before and 0x80 <= before[0] < 0xC0:  # the cut went through a character
        before = before[1:]
    return Excerpt(
        text=position.text,
        position=position.index,
        in_chunk=position.in_chunk,
        kl=position.kl,
        before=("…" if start else "") + before.decode("utf-8", errors="backslashreplace"),
        following=_word(tokenizer, ids[end]) if end < len(ids) else None,
        original=tuple(NextWord(_word(tokenizer, token), share) for token, share in position.original),
        packaged=tuple(NextWord(_word(tokenizer, token), share) for token, share in position.packaged),
    )


def _word(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.token_bytes(token).decode("utf-8", errors="backslashreplace")


def _cut(texts: Sequence[tuple[str, list[int]]], context_length: int) -> Iterator[Text]:
    """Texts longer than the context become several."""
    for name, ids in texts:
        for part, start in enumerate(range(0, len(ids), context_length)):
            piece = ids[start : start + context_length]
            if len(piece) > 1:
                yield Text(name if part == 0 else f"{name} {part + 1}", np.array(piece, np.int64))


def _conversations(content: str) -> Iterator[list[Turn]]:
    for conversation in json.loads(content):
        yield [Turn(turn["role"], turn["content"]) for turn in conversation]
