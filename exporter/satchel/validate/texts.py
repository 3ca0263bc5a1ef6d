"""The texts that behaviour is measured on: Satchel's own or a user's files, as token ids."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain, cycle, islice, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satchel.errors import UsageError
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.tokenizer import Tokenizer

WHOLE_CONTEXT = "whole context"
_GOLDEN = "prose"  # the text whose beginning a device's self-test repeats


@dataclass(frozen=True)
class Text:
    """One evaluation text as token ids int64 [n]. bytes: what of it the tokens after the first are in UTF-8; 0 if that
    is not known."""

    name: str
    ids: NDArray[np.int64]
    bytes: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What behaviour is measured on.

    texts: each read from its beginning. whole: one that fills the context to its last position, read as an app reads a
    long prompt. golden: the one of `texts` whose beginning goes into golden.json.
    """

    texts: tuple[Text, ...]
    whole: Text
    golden: Text

    @property
    def all(self) -> tuple[Text, ...]:
        return (*self.texts, self.whole)

    @property
    def tokens(self) -> int:
        return sum(len(text.ids) for text in self.all)


def evaluation_texts(tokenizer: Tokenizer, program: PromptProgram | None, context_length: int) -> Evaluation:
    """The built-in evaluation texts as ids, each cut to the context. Conversations go through the prompt program and
    are left out if the model has none. Every text begins with the tokenizer's start ids."""
    folder = resources.files("satchel.resources") / "text" / "evaluation"
    texts, written = [], []
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name, content = file.name.rpartition(".")[0], file.read_text(encoding="utf-8")
        if file.name.endswith(".txt"):
            written.append(content)
            texts.append((name, tokenizer.encode(content, special=False)))
        elif file.name.endswith(".json") and program is not None:
            texts.append((name, [i for turns in _conversations(content) for i in _answered(turns, tokenizer, program)]))
    cut = tuple(_cut(texts, context_length, tokenizer))
    golden = next(text for text in cut if text.name == _GOLDEN)
    return Evaluation(cut, _whole(written, context_length, tokenizer), golden)


def user_texts(files: Sequence[Path], tokenizer: Tokenizer, context_length: int) -> Evaluation:
    """A user's UTF-8 files as ids. Raises UsageError if a file has fewer than two tokens or is not UTF-8.

    A text is named like its file, or by the whole path where another text has the same name.
    """
    texts, written = [], []
    names = [WHOLE_CONTEXT, *(file.name for file in files)]
    for file in dict.fromkeys(files):
        try:
            content = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"--text {file} is not UTF-8 text ({error.reason}): convert it") from error
        ids = tokenizer.encode(content, special=False)
        if len(ids) < 2:
            raise UsageError(f"--text {file} has {len(ids)} tokens: at least 2 are needed to predict one")
        texts.append((file.name if names.count(file.name) == 1 else str(file.absolute()), ids))
        written.append(content)
    cut = tuple(_cut(texts, context_length, tokenizer))
    return Evaluation(cut, _whole(written, context_length, tokenizer), cut[0])


def _whole(contents: Sequence[str], context_length: int, tokenizer: Tokenizer) -> Text:
    """A text of exactly `context_length` tokens: the paragraphs of all texts by turns, so that each part of the context
    has something of each; over and over if there are too few."""
    by_turns = chain.from_iterable(zip_longest(*(content.rstrip().split("\n\n") for content in contents), fillvalue=""))
    paragraphs = [paragraph + "\n\n" for paragraph in by_turns if paragraph]
    once = [i for paragraph in paragraphs or contents for i in tokenizer.encode(paragraph, special=False)]
    opening = list(tokenizer.start_ids)
    ids = [*opening, *islice(cycle(once), context_length - len(opening))]
    return Text(WHOLE_CONTEXT, np.array(ids, np.int64), _bytes(ids, tokenizer))


def _bytes(ids: list[int], tokenizer: Tokenizer) -> int:
    """UTF-8 bytes of the tokens after the first."""
    return len(tokenizer.decode(ids).encode()) - len(tokenizer.decode(ids[:1]).encode())


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
                named = name if part == 0 else f"{name} {part + 1}"
                yield Text(named, np.array(piece, np.int64), _bytes(piece, tokenizer))


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
