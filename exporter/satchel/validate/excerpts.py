"""Places in the evaluation texts, in words."""

from collections.abc import Sequence

from satchel.reference.tokenizer import Tokenizer
from satchel.report.figures import Excerpt, NextWord
from satchel.validate.fidelity import Position
from satchel.validate.texts import Text

_CONTEXT = 40  # tokens of text that an excerpt shows before its position


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
