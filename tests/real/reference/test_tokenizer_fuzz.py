"""The default model's tokenizer against Hugging Face's on 100 000 random texts: not one difference."""

import random
from collections.abc import Iterator
from itertools import islice

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from random_text import random_texts
from satchel.reference.tokenizer import Tokenizer
from satchel.source.checkpoint import TokenizerAssets

TEXTS = 100_000
BATCH = 10_000


def batches(specials: list[str]) -> Iterator[list[str]]:
    texts = random_texts(TEXTS, seed=2024, specials=specials)
    while batch := list(islice(texts, BATCH)):
        yield batch


@pytest.mark.parametrize("special", [True, False], ids=["special tokens matched", "not matched"])
def test_encode_and_decode_equal_hugging_face(assets: TokenizerAssets, tokenizer: Tokenizer, special: bool) -> None:
    theirs = HuggingFaceTokenizer.from_str(assets.tokenizer_json)
    theirs.encode_special_tokens = not special
    compared = 0
    for texts in batches([token.content for token in tokenizer.added_tokens]):
        encodings = [encoding.ids for encoding in theirs.encode_batch_fast(texts, add_special_tokens=False)]
        skip = special  # each way of decoding once
        decoded = theirs.decode_batch(encodings, skip_special_tokens=skip)
        for text, ids, back in zip(texts, encodings, decoded, strict=True):
            assert tokenizer.encode(text, special) == ids, ascii(text)
            assert tokenizer.decode(ids, skip) == back, ids
            compared += 1
    assert compared == TEXTS


def test_decoding_random_ids_equals_hugging_face(assets: TokenizerAssets, tokenizer: Tokenizer) -> None:
    """Random ids make every kind of malformed UTF-8."""
    theirs = HuggingFaceTokenizer.from_str(assets.tokenizer_json)
    source = random.Random(5)
    lists = [[source.randrange(tokenizer.vocab_size) for _ in range(source.randrange(12))] for _ in range(10_000)]
    lists += [[source.randrange(17, 260) for _ in range(source.randrange(12))] for _ in range(10_000)]
    for ids, expected in zip(lists, theirs.decode_batch(lists, skip_special_tokens=False), strict=True):
        assert tokenizer.decode(ids) == expected, ids


def test_a_megabyte_of_one_letter(assets: TokenizerAssets, tokenizer: Tokenizer) -> None:
    text = "a" * 1_000_000
    theirs = HuggingFaceTokenizer.from_str(assets.tokenizer_json)
    assert tokenizer.encode(text, special=False) == theirs.encode(text, add_special_tokens=False).ids
