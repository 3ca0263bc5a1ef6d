"""Tokenizers, texts to encode and ids to decode."""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as HuggingFaceTokenizer

from satchel.compile.tokenizer import compile_tokenizer
from satchel.reference.stream import TextStream
from satchel.reference.tokenizer import Tokenizer

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
    "{{ messages }} {% x %}", "def f(x):\n    return x**2\n", "http://a.b/c?d=e&f#g",
    "\u1112\u1161\u11ab \u0300\u0301 a\u0323\u0307\u0323 \u0344 \u212b \ufb1d",
    "<0x41><0xF0>",
    "\u2581the \u2581", "the there the. e\u0301x\u00e9x", " xyz xyzxyz", "a  b a b", "I'S 'LL's\u017f 1234567",
    "a" * 300 + "b",
    "\u202e\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd\u202c",
    "z" * 64 + "\U0001f600" * 20, "tab\there  two\u2003em",
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
    tokenizer.add_special_tokens([AddedToken("<|turn|>", special=True, lstrip=True, rstrip=True)])
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


WORDS = (
    "Hello",
    "the",
    "\u2581",
    "\u2581the",
    "\u2581Hello",
    "\u2581\u2581",
    "world",
    "\u2581world",
    "ing",
    "\u00e9",
    "e\u0301",
)
CHARACTERS = " abcdefghilnorstwHW.,!'123<>x\u00e9\u0301\u4f60\u0939\n\u0645"


def character_definition(unknown: dict[str, Any]) -> dict[str, Any]:
    """BPE over characters, as SentencePiece makes it: its blank, a token for each byte, few characters and merges."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *CHARACTERS, "\u2581"]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if (word[: end - 1], word[end - 1]) not in merges:
                merges.append((word[: end - 1], word[end - 1]))
    tokens += [left + right for left, right in merges]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = HuggingFaceTokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", **unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens[:3]])
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("a  b", normalized=True)])
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


def sentencepiece_tokenizer_json() -> str:
    """Llama 2's kind: a blank before all, bytes for what has no token."""
    return json.dumps(character_definition({"byte_fallback": True, "fuse_unk": True}))


def metaspace_tokenizer_json() -> str:
    """A blank before the first word only, unknown characters in a row one token, decoded by Metaspace."""
    definition = character_definition({"fuse_unk": True})
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}
    return json.dumps({**definition, "normalizer": None, "pre_tokenizer": metaspace, "decoder": metaspace})


def pattern_tokenizer_json() -> str:
    """NFC, a pattern as Llama 3 and Qwen have, whole words first, and a token that stands as a word of its own."""
    tokenizer = HuggingFaceTokenizer.from_str(chat_tokenizer_json())
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    vocabulary["\u0120xyz"] = len(vocabulary)
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    pattern = tokenizers.Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    wide = HuggingFaceTokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    wide.normalizer = normalizers.NFC()
    wide.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    wide.decoder = decoders.ByteLevel()
    wide.add_special_tokens([AddedToken(text, special=True) for text in SPECIALS])
    wide.add_tokens([AddedToken("the", single_word=True, normalized=False), AddedToken("e\u0301x", normalized=True)])
    return str(wide.to_str())


TOKENIZER_JSON = {
    "chat": chat_tokenizer_json(),
    "odd": odd_tokenizer_json(),
    "sentencepiece": sentencepiece_tokenizer_json(),
    "metaspace": metaspace_tokenizer_json(),
    "pattern": pattern_tokenizer_json(),
}
TOKENIZER_BIN = {name: compile_tokenizer(text) for name, text in TOKENIZER_JSON.items()}
TOKENIZERS = {name: Tokenizer.from_bytes(data) for name, data in TOKENIZER_BIN.items()}


def encode_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for name, tokenizer in TOKENIZERS.items():
        for text in TEXTS:
            for special in (True, False):
                ids = tokenizer.encode(text, special)
                case: dict[str, Any] = {"tokenizer": name, "text": text, "special": special, "ids": ids}
                if (behind := tokenizer.encode(text, special, at_start=False)) != ids:
                    case["ids_behind"] = behind
                if special and (raw := tokenizer.encode_raw(text)) != ids:
                    case["ids_raw"] = raw
                cases.append(case)
    return cases


def decode_cases() -> list[dict[str, Any]]:
    odd = TOKENIZERS["odd"]
    every = [token.id for token in odd.added_tokens]
    cases = [
        *malformed_cases("chat", TOKENIZERS["chat"].token_bytes),
        *malformed_cases("sentencepiece", lambda token: bytes([token - 3])),
        {"tokenizer": "odd", "ids": every, "skip_special": False, "text": odd.decode(every)},
    ]
    source = random.Random(13)
    for name in ("sentencepiece", "metaspace"):
        tokenizer = TOKENIZERS[name]
        for _ in range(40):
            # Half of them byte tokens, so that runs of them are long.
            tops = [source.choice((259, tokenizer.vocab_size)) for _ in range(source.randrange(9))]
            cases += both_ways(name, [source.randrange(top) for top in tops])
    return cases


def malformed_cases(name: str, bytes_of: Callable[[int], bytes]) -> list[dict[str, Any]]:
    """Every kind of malformed UTF-8, special tokens and ids beyond the vocabulary, and random ids."""
    tokenizer = TOKENIZERS[name]
    first = 3 if name == "sentencepiece" else 0
    tokens = {bytes_of(token): token for token in range(first, first + 256)}
    malformed = (
        "80", "bfbf", "c0af", "c1bf", "c241", "c2", "c2c2a9", "e0", "e080af", "e09fbf", "e0a0", "e0a041", "e282",
        "e282ac",
        "e28228a1", "eda080", "edbfbf", "ed9fbf", "efbfbd", "f0", "f09f", "f09f98", "f09f9880", "f08f8080",
        "f0908080",
        "f48fbfbf", "f4908080", "f5808080", "f88080808080", "feff", "41e28242f09f4380", "f09f98f09f9880",
        "e4bda0e5a5",
        "c3a9cc81c3", "f0f0f0", "e0e0a0a0", "80c3a980",
    )  # fmt: skip
    lists = [[tokens[bytes([byte])] for byte in bytes.fromhex(text)] for text in malformed]
    source = random.Random(12)
    lists += [[source.randrange(tokenizer.vocab_size) for _ in range(source.randrange(8))] for _ in range(40)]
    special = [token.id for token in tokenizer.added_tokens]
    lists += [special, [special[0], *lists[11], special[1], *lists[12]], [tokenizer.vocab_size, 0xFFFFFFF]]
    return [case for ids in lists for case in both_ways(name, ids)]


def both_ways(name: str, ids: list[int]) -> list[dict[str, Any]]:
    """The ids decoded with and without special tokens, and what a stream shows of them."""
    tokenizer = TOKENIZERS[name]
    stream = TextStream(tokenizer)
    deltas = [*(stream.push(token) for token in ids), stream.finish()]
    shown = {"skip_special": True, "text": tokenizer.decode(ids, skip_special=True), "deltas": deltas}
    whole = {"skip_special": False, "text": tokenizer.decode(ids, skip_special=False)}
    return [{"tokenizer": name, "ids": ids, **case} for case in (shown, whole)]


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""
    binaries = {name: base64.b64encode(data).decode() for name, data in TOKENIZER_BIN.items()}
    return {
        "tokenizers.json": {"tokenizers": binaries},
        "encode.json": {"cases": encode_cases()},
        "decode.json": {"cases": decode_cases()},
    }
