"""Byte-level BPE of a GGUF file (`tokenizer.ggml.model` gpt2): tokens, merges, and a name for how texts are cut.

The names are llama.cpp's (`tokenizer.ggml.pre`). Only those whose exact meaning is known here are taken; guessing one
would give a model that runs and is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from satchel.errors import TokenizerError
from satchel.source.gguf.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer

_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


@dataclass(frozen=True)
class BytePairs:
    """What a name in llama.cpp's table stands for: a byte-level tokenizer.

    split: how a text is cut into pieces. nfc: it is normalized before. whole_words_first: a piece that is a token is
    not merged. adds_bos: where the file doesn't say so, the beginning-of-text token opens every text.
    """

    split: Callable[[], "PreTokenizer"]
    nfc: bool = False
    whole_words_first: bool = False
    adds_bos: bool = False


def _digits() -> "PreTokenizer":
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])


def _gpt2() -> "PreTokenizer":
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel(add_prefix_space=False, use_regex=True)


def _pieces(pattern: str) -> "PreTokenizer":
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    return Sequence([Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def _pattern(digits: str) -> "PreTokenizer":
    """Words with one mark before them, numbers of so many digits, marks and blanks."""
    marks = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
    return _pieces(rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|{marks}|{_BLANKS}")


def _by_case(digits: str, endings: str) -> "PreTokenizer":
    """Words are cut where small letters end and a capital begins; endings: what stays with a word."""
    before = r"[^\r\n\p{L}\p{N}]?"
    words = rf"{before}{_UPPER}*{_LOWER}+{endings}|{before}{_UPPER}+{_LOWER}*{endings}"
    return _pieces(rf"{words}|{digits}|" + r" ?[^\s\p{L}\p{N}]+[\r\n/]*" + f"|{_BLANKS}")


_LLAMA3 = BytePairs(lambda: _pattern(r"\p{N}{1,3}"), whole_words_first=True, adds_bos=True)
_QWEN2 = BytePairs(lambda: _pattern(r"\p{N}"), nfc=True)
_GPT_4O = BytePairs(lambda: _by_case(r"\p{N}{1,3}", f"{_ENDINGS}?"))
PRE_TOKENIZERS: Mapping[str, BytePairs] = {
    "smollm": BytePairs(_digits),
    "gpt-2": BytePairs(_gpt2),
    "llama-bpe": _LLAMA3,
    "qwen2": _QWEN2,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "deepseek-r1-qwen": _QWEN2,
    "dbrx": BytePairs(lambda: _pattern(r"\p{N}{1,3}")),
    "smaug-bpe": BytePairs(lambda: _pattern(r"\p{N}{1,3}")),
    "tekken": BytePairs(lambda: _by_case(r"\p{N}", ""), whole_words_first=True, adds_bos=True),
    "gpt-4o": _GPT_4O,
    "llama4": _GPT_4O,
    "starcoder": BytePairs(_digits),
    "refact": BytePairs(_digits),
    "phi-2": BytePairs(_gpt2),
}


def byte_pairs(name: object) -> BytePairs:
    """Raises TokenizerError if the name is not known."""
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        known = ", ".join(map(repr, PRE_TOKENIZERS))
        raise TokenizerError(f"the GGUF pre-tokenizer {name!r} is not supported; supported: {known}")
    return PRE_TOKENIZERS[name]


def byte_level_tokenizer(vocabulary: Vocabulary, merges: Sequence[str], kind_of: BytePairs) -> "Tokenizer":
    """Without its added tokens and what opens a text. Bytes without a token are dropped, so no unknown token is named.

    Raises TokenizerError for token types that byte-level BPE has no place for, and merges of nothing.
    """
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    vocabulary.refuse_other_kinds()
    ids = vocabulary.ids
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        left, separator, right = merge.partition(" ")
        if not separator or any(token not in ids for token in (left, right, left + right)):
            raise TokenizerError(f"the merge {merge!r} in the GGUF file does not join two tokens into a third")
        pairs.append((left, right))
    model = BPE(dict(ids), pairs, fuse_unk=False, byte_fallback=False, ignore_merges=kind_of.whole_words_first)
    tokenizer = Tokenizer(model)
    if kind_of.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = kind_of.split()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
