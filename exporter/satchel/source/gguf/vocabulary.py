"""The tokens of a GGUF file: texts and what kind each of them is, checked for one id per text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

from satchel.errors import TokenizerError


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`, numbered as in the GGUF specification."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_OF_BYTES = (TokenType.NORMAL, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED)


@dataclass(frozen=True)
class Vocabulary:
    """Texts by id, and the type of each."""

    tokens: Sequence[str]
    types: Sequence[int]

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "Vocabulary":
        """Raises TokenizerError if the tokens or their types are missing or of another length."""
        tokens = strings(metadata, "tokens")
        types = metadata.get("tokenizer.ggml.token_type")
        if not isinstance(types, list) or len(types) != len(tokens) or not all(type(kind) is int for kind in types):
            raise TokenizerError(
                f"tokenizer.ggml.token_type does not have one entry for each of the {len(tokens)} tokens"
            )
        return cls(tokens, types)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Text -> id; unused ids are holes. Raises TokenizerError if a text stands there twice."""
        found: dict[str, int] = {}
        for token_id, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True)):
            if kind != TokenType.UNUSED and found.setdefault(token, token_id) != token_id:
                raise TokenizerError(f"token {token!r} stands in the GGUF file twice, as {found[token]} and {token_id}")
        return found

    def of_type(self, *kinds: TokenType) -> list[tuple[int, str]]:
        """Ids and texts, in order."""
        return [(i, self.tokens[i]) for i, kind in enumerate(self.types) if kind in kinds]

    def refuse_other_kinds(self, known: Sequence[TokenType] = _OF_BYTES) -> None:
        for token_id, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True)):
            if kind not in known:
                raise TokenizerError(
                    f"token {token_id} ({token!r}) has the GGUF token type {kind}, which is not supported"
                )


def strings(metadata: Mapping[str, Any], key: str) -> Sequence[str]:
    """A list of texts under tokenizer.ggml. Raises TokenizerError if there is none."""
    values = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise TokenizerError(f"the GGUF file holds no tokenizer.ggml.{key}; use the file as its author published it")
    return values
