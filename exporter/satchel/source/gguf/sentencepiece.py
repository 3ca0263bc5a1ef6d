"""SentencePiece's BPE of a GGUF file (`tokenizer.ggml.model` llama): tokens with scores, and no merges.

SentencePiece joins the two neighbours whose text has the highest score, whatever the two are; Hugging Face's BPE has a
list of pairs in order. So each token gives the pairs that it can be made of, in the order of the scores. Both end in
the same tokens if no two scores are equal and every letter of a token is a token of its own: what is not so is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from satchel.errors import TokenizerError
from satchel.source.gguf.vocabulary import TokenType, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BLANK = "\u2581"  # what SentencePiece writes for a blank
_LONGEST_RUN = 32  # blanks in a token where all runs of them have one score; Llama's longest is 16
_LONGEST = 256  # letters of a token that is merged from others; SentencePiece's own bound is 16 unless told otherwise


def respelled(vocabulary: Vocabulary) -> Vocabulary:
    """llama.cpp's conversion turns a user's token of blanks back into blanks; SentencePiece looks for its own sign."""
    tokens = [
        token.replace(" ", BLANK) if kind == TokenType.USER_DEFINED else token
        for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
    ]
    return Vocabulary(tokens, vocabulary.types)


def sentencepiece_tokenizer(vocabulary: Vocabulary, metadata: Mapping[str, Any]) -> "Tokenizer":
    """Without its added tokens and what opens a text. vocabulary: respelled.

    Raises TokenizerError, naming the token, where Hugging Face's rules could give other ids than SentencePiece's.
    """
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    if metadata.get("tokenizer.ggml.remove_extra_whitespaces"):
        raise TokenizerError("the GGUF tokenizer sets remove_extra_whitespaces, which is not supported")
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    if type(unknown) is not int or not 0 <= unknown < len(vocabulary.tokens):
        raise TokenizerError(f"tokenizer.ggml.unknown_token_id is {unknown!r:.40}")
    _require_all_bytes(vocabulary)
    prefix = adds_blank(metadata)
    pairs = _merges(vocabulary, _scores(metadata, len(vocabulary.tokens)))
    tokenizer = Tokenizer(
        BPE(dict(vocabulary.ids), pairs, unk_token=vocabulary.tokens[unknown], fuse_unk=True, byte_fallback=True)
    )
    blanks = normalizers.Replace(" ", BLANK)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), blanks]) if prefix else blanks
    steps = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer


def adds_blank(metadata: Mapping[str, Any]) -> bool:
    """Whether a text, and what follows a special token, begins with a blank: llama.cpp's default."""
    return bool(metadata.get("tokenizer.ggml.add_space_prefix", True))


def _scores(metadata: Mapping[str, Any], count: int) -> Sequence[float]:
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != count or not all(type(one) is float for one in scores):
        raise TokenizerError(f"tokenizer.ggml.scores does not have one number for each of the {count} tokens")
    return scores


def _require_all_bytes(vocabulary: Vocabulary) -> None:
    """A letter that is no token is written as the bytes of its UTF-8, each of which is a token."""
    found = {token for _, token in vocabulary.of_type(TokenType.BYTE)}
    if missing := sorted({f"<0x{byte:02X}>" for byte in range(256)} - found):
        raise TokenizerError(f"the GGUF tokenizer has no token for the byte {missing[0]}, so not every text has ids")


def _merges(vocabulary: Vocabulary, scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to make a token of two, best token first, and the longest beginning first."""
    normal = {token: scores[token_id] for token_id, token in vocabulary.of_type(TokenType.NORMAL)}
    # A user's token is found before anything is merged, so a token that holds one is never made.
    letters = {token for _, token in vocabulary.of_type(TokenType.NORMAL, TokenType.USER_DEFINED) if len(token) == 1}
    found: list[tuple[float, str, str]] = []
    by_score: dict[float, list[str]] = {}
    for token, score in normal.items():
        if len(token) > _LONGEST:
            raise TokenizerError(f"{token[:20]!r}... is a token of {len(token)} letters in the GGUF file")
        if len(token) > 1 and (strange := set(token) - letters):
            raise _uncertain(f"{token!r} is a token of the GGUF file, and its letter {min(strange)!r} is not")
        if pairs := _pairs(token, normal):
            by_score.setdefault(score, []).append(token)
            found += [(score, *pair) for pair in pairs]
    for token_id, token in vocabulary.of_type(TokenType.UNUSED):
        if len(token) <= _LONGEST and _pairs(token, normal):
            raise TokenizerError(f"token {token_id} ({token!r}) is unused and made of others, which is not supported")
    _require_certain(by_score, {len(token) for token in normal if set(token) == {BLANK}})
    found.sort(key=lambda merge: (-merge[0], -len(merge[1])))
    return [(left, right) for _, left, right in found]


def _pairs(token: str, normal: Mapping[str, float]) -> list[tuple[str, str]]:
    return [
        (left, right) for i in range(1, len(token)) if (left := token[:i]) in normal and (right := token[i:]) in normal
    ]


def _require_certain(by_score: Mapping[float, Sequence[str]], blanks: set[int]) -> None:
    """Equal scores would leave it to the place in the text which pair is joined first, which Hugging Face's BPE can't.

    Llama's runs of blanks have one score, the last of all: when their turn comes only whole runs are left, and for
    those both rules are tried. blanks: the lengths that are tokens.
    """
    for score, tokens in by_score.items():
        if len(tokens) == 1:
            continue
        if any(set(token) != {BLANK} for token in tokens) or score != min(by_score) or max(blanks) > _LONGEST_RUN:
            raise _uncertain(f"the GGUF tokenizer gives {tokens[0]!r} and {tokens[1]!r} the same score")
        for length in range(1, 4 * max(blanks) + 1):
            if _joined(length, blanks, lambda left: 0) != _joined(length, blanks, lambda left: -left):
                raise _uncertain(
                    f"the GGUF tokenizer gives all runs of blanks the same score, and {length} in a row differ"
                )


def _joined(length: int, tokens: set[int], rank: Callable[[int], int]) -> list[int]:
    """The lengths of the tokens of a run; rank: of a pair by its left side's length, the first of equals wins."""
    parts = [1] * length
    while pairs := [(rank(one), i) for i, (one, other) in enumerate(pairwise(parts)) if one + other in tokens]:
        _, first = min(pairs)
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
    return parts


def _uncertain(what: str) -> TokenizerError:
    return TokenizerError(
        f"{what}, so the ids of a text are not certain. Use the model's Hugging Face directory instead."
    )
