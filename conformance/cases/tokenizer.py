"""Tokenizers, texts to encode and ids to decode."""

import base64
import random
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from satchel.reference.stream import TextStream
from satchel.reference.tokenizer import Tokenizer, compile_tokenizer

MERGES = (
    "t h", "th e", "\u0120 the", "\u0120 a", "i n", "in g", "h e", "r e", "o n", "e r", "\u0120 w", "\u0120w or",
    "o r",
    "l l", "l d", "\u0120wor ld", "e l", "H el", "Hel l", "Hell o", "' s", "' t", "\u0120 \u0120",
    "\u0120\u0120 \u0120\u0120",
    "a a", "aa aa", "aaaa aaaa", "a b", "ab a", "b a", "c d", "b cd", "a bcd", "ab cd", "\u010a \u010a",
    "\u00c3 \u00a9", "\u00e4 \u00bd",
    "\u00e4\u00bd \u0142", "\u00f0 \u0141", "\u00f0\u0141 \u013a", "\u00f0\u0141\u013a \u0122", "1 2", "12 3",
    "\u0120 1", "! !", "!! !",
    "\u00cc \u0123", "e \u00cc\u0123",
)  # fmt: skip
SPECIALS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")

TEXTS = (
    "", " ", "  ", "   ", "\n", "\n\n", " \n", "\n ", "a", " a", "  a", "Hello world", "Hello  the world the",
    "thethe ing 'singing'", "it's It'S we're I'll they'd you've I'm don't 'd'll", "'", "''s", " 's", "x's", "'sx",
    "1", "12", "123", "1234 123", " 123", "a1b2", "\u0661\u0662\u0663", "\u00bd\u00b2\u2167\u2460\u3007", "x\u00b2",
    "aaaaaaaa", "aaaaaaaaaaaaaaaaaaaaa", "ababababa", "abcd", "abcdabcd ab cd", "bcd", "!!!!!!", "!?!?...",
    "a_b-c+d=e",
    "\t\ta\r\nb\x0b\x0c", "\u00a0a\u00a0 a \u3000a", "a\u2028b\u2029c\u0085d", "\u200b\u200d\ufeff\u180e",
    "\x1c\x1d\x1e\x1f",
    "\x00\x01\x7f\x80", "e\u0301\u00e9E\u0301", "\u4f60\u597d \u4f60", "\u0939\u093f\u0928\u094d\u0926\u0940",
    "\ud55c\uae00 \u1112\u1161\u11ab",
    "\U0001f600\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\U0001d7d8\U0001d7d9\U0001d400", "\U00020000\U0010ffff\U000e0041",
    "\ufffd\ufffe\uffff", "<s>", "</s></s>", "<s", "s>", "a<s>b</s>c", "<<s>>", "<|im_start|>user\nHello<|im_end|>\n",
    "<|im_start|", "|im_end|>", "<|im_end|><|im_end|> the", "<pad>", "a <pad> b", "<pad><pad>x", "<mask>",
    " a  <mask>  b ", "\u3000<mask>\u00a0",
    "<mask><mask> <mask>", " \n<mask>\n <s> ", "<tool>", "<<tool>>", "<tool><tool> <s>", "<s><tool></s>",
    "<two words>", "x<two words>y",
    "\u00e9e\u0301\u00e9", "<outer <s> end>", "<outer <s> en", "<outer <s> end><s>", "\ud800", "a\udc00b",
    "\ud83d", "\ud83d\U0001f600",
    "\u01c5\u02b0\u00aa\u0300", "\u0e01\u0e33\u0e49", "\u2070\u00b9\u1d52", "\u16ee\u3021",
    "\U00011950\U00011f50\U00010d40\U00011de0", "\U000323b0\U0002ebf0",
    "{{ messages }} {% x %}", "def f(x):\n    return x**2\n", "http://a.b/c?d=e&f#g", "tab\there  two\u2003em",
)  # fmt: skip


def byte_vocabulary() -> dict[str, int]:
    return {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


def chat_tokenizer_json() -> str:
    """All bytes, a few merges, special tokens, digits one by one: the kind that small chat models have."""
    vocabulary = byte_vocabulary()
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = HuggingFaceTokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIALS])
    tokenizer.add_tokens([AddedToken("<pad>", special=False, normalized=False)])
    return str(tokenizer.to_str())


def odd_tokenizer_json() -> str:
    """What is rarer: blank put before pieces, digits in runs, bytes without a token, every kind of added token."""
    vocabulary = byte_vocabulary()
    without = {"\u0102", "\u00c1", "\u0101", "Q"}  # bytes 02, C1, 01 and the letter Q
    kept = [symbol for symbol in vocabulary if symbol not in without]
    vocabulary = {symbol: index for index, symbol in enumerate(kept)}
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = HuggingFaceTokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken("<s>", special=True),
            AddedToken("<outer <s> end>", special=True),
            AddedToken("</s></s>", special=False, normalized=True),
            AddedToken("<mask>", special=True, lstrip=True, rstrip=True),
            AddedToken("<tool>", special=False, normalized=False, rstrip=True),
            AddedToken("<two words>", special=False, normalized=True, lstrip=True),
            AddedToken("\u00e9", special=False, normalized=True),
            AddedToken(" ", special=False, normalized=False),
        ]
    )
    return str(tokenizer.to_str())


TOKENIZER_JSON = {"chat": chat_tokenizer_json(), "odd": odd_tokenizer_json()}
TOKENIZER_BIN = {name: compile_tokenizer(text) for name, text in TOKENIZER_JSON.items()}
TOKENIZERS = {name: Tokenizer.from_bytes(data) for name, data in TOKENIZER_BIN.items()}


def encode_cases() -> list[dict[str, Any]]:
    return [
        {"tokenizer": name, "text": text, "special": special, "ids": tokenizer.encode(text, special)}
        for name, tokenizer in TOKENIZERS.items()
        for text in TEXTS
        for special in (True, False)
    ]


def decode_cases() -> list[dict[str, Any]]:
    """Every kind of malformed UTF-8, special tokens and ids beyond the vocabulary, and random ids."""
    tokenizer = TOKENIZERS["chat"]
    bytes_of = {tokenizer.token_bytes(token): token for token in range(256)}
    malformed = (
        "80", "bfbf", "c0af", "c1bf", "c241", "c2", "c2c2a9", "e0", "e080af", "e09fbf", "e0a0", "e0a041", "e282",
        "e282ac",
        "e28228a1", "eda080", "edbfbf", "ed9fbf", "efbfbd", "f0", "f09f", "f09f98", "f09f9880", "f08f8080",
        "f0908080",
        "f48fbfbf", "f4908080", "f5808080", "f88080808080", "feff", "41e28242f09f4380", "f09f98f09f9880",
        "e4bda0e5a5",
        "c3a9cc81c3", "f0f0f0", "e0e0a0a0", "80c3a980",
    )  # fmt: skip
    lists = [[bytes_of[bytes([byte])] for byte in bytes.fromhex(text)] for text in malformed]
    source = random.Random(12)
    lists += [[source.randrange(tokenizer.vocab_size) for _ in range(source.randrange(8))] for _ in range(40)]
    special = [token.id for token in tokenizer.added_tokens]
    lists += [special, [special[0], *lists[11], special[1], *lists[12]], [tokenizer.vocab_size, 0xFFFFFFF]]
    cases: list[dict[str, Any]] = []
    for ids in lists:
        stream = TextStream(tokenizer)
        deltas = [*(stream.push(token) for token in ids), stream.finish()]
        cases.append(
            {
                "tokenizer": "chat",
                "ids": ids,
                "skip_special": True,
                "text": tokenizer.decode(ids, skip_special=True),
                "deltas": deltas,
            }
        )
        cases.append(
            {"tokenizer": "chat", "ids": ids, "skip_special": False, "text": tokenizer.decode(ids, skip_special=False)}
        )
    odd = TOKENIZERS["odd"]
    every = [token.id for token in odd.added_tokens]
    cases.append({"tokenizer": "odd", "ids": every, "skip_special": False, "text": odd.decode(every)})
    return cases


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""
    binaries = {name: base64.b64encode(data).decode() for name, data in TOKENIZER_BIN.items()}
    return {
        "tokenizers.json": {"tokenizers": binaries},
        "encode.json": {"cases": encode_cases()},
        "decode.json": {"cases": decode_cases()},
    }
