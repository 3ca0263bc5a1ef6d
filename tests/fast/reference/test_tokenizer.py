"""The reference tokenizer against Hugging Face's, on tokenizers made here, and what it refuses."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from random_text import random_texts
from satchel.errors import BundleError, TokenizerError
from satchel.reference.tokenizer import Tokenizer, compile_tokenizer
from satchel.reference.tokenizer_format import Op, Section, pack_sections, unpack_sections

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Definition = dict[str, Any]
Change = Callable[[Definition], object]

ADDED = (
    AddedToken("<|start|>", special=True),
    AddedToken("<|end|>", special=True),
    AddedToken("<|end|><|end|>", special=True),  # the longest match wins
    AddedToken("<<in <|start|> side>>", special=True),
    AddedToken("start", special=False, normalized=False),  # also inside of a special one
    AddedToken("  ", special=False, normalized=True),
    AddedToken("<fill>", special=False, normalized=True),
    AddedToken("<mask>", special=True, lstrip=True),
    AddedToken("<sep>", special=True, rstrip=True),
    AddedToken("\u00e9 ", special=False, normalized=False),  # decodes to other bytes than it matches
    AddedToken("\u00e9\u00e9", special=False, normalized=False),
    AddedToken("word", special=False, normalized=False, single_word=True),
    AddedToken("e\u0301 x", special=False, normalized=True),
)
SPECIALS = [token.content for token in ADDED]


@pytest.fixture(scope="module")
def definition() -> Definition:
    """A trained byte-level BPE with digits apart and added tokens of every kind, as tokenizer.json's content."""
    tokenizer = HuggingFaceTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(random_texts(3000, seed=5, specials=[]), trainer)
    tokenizer.add_tokens(list(ADDED))
    content: Definition = json.loads(tokenizer.to_str())
    return content


def changed(definition: Definition, change: Change) -> str:
    copy: Definition = json.loads(json.dumps(definition))
    change(copy)
    return json.dumps(copy)


def without_bytes(definition: Definition, unknown: str | None) -> None:
    """Takes the single bytes of two letters and of a continuation byte out of the vocabulary."""
    model = definition["model"]
    gone = {"e", "T", "\u0122"}
    model["merges"] = [pair for pair in model["merges"] if not gone & set("".join(pair))]
    # Other names keep their ids: without them the added tokens would get ids of their own choice.
    model["vocab"] = {
        f"\u4e00{token_id}" if gone & set(token) else token: token_id for token, token_id in model["vocab"].items()
    }
    model["unk_token"] = unknown


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> Definition:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def pre_tokenized(*steps: Definition, use_regex: bool = False) -> Change:
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
    return lambda d: d.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [*steps, last]})


def normalized(*steps: Definition) -> Change:
    return lambda d: d.update(normalizer={"type": "Sequence", "normalizers": list(steps)})


def replaced(pattern: str, content: str) -> Definition:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


VARIANTS: dict[str, Change] = {
    "as trained": lambda d: None,
    "digits in runs": lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(individual_digits=False),
    "blank before every piece": lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
    "no pattern": lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(use_regex=False),
    "ByteLevel alone": lambda d: d.update(pre_tokenizer=d["pre_tokenizer"]["pretokenizers"][1]),
    "merges as text": lambda d: d["model"].update(merges=[" ".join(pair) for pair in d["model"]["merges"]]),
    "a merge listed twice": lambda d: d["model"]["merges"].append(d["model"]["merges"][0]),
    "no added tokens": lambda d: d.update(added_tokens=[]),
    "bytes without a token": lambda d: without_bytes(d, None),
    "bytes of the unknown token": lambda d: without_bytes(d, "!"),
    "unknown tokens fused": lambda d: (without_bytes(d, "!"), d["model"].update(fuse_unk=True)),
    "whole words first": lambda d: d["model"].update(ignore_merges=True),
    "pattern of Qwen": pre_tokenized(split(QWEN)),
    "pattern of Llama 3": pre_tokenized(split(QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|"))),
    "pattern of o200k": pre_tokenized(split(O200K)),
    "patterns of DeepSeek": pre_tokenized(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(DEEPSEEK)
    ),
    "what is found is taken out": pre_tokenized(split(r"\s+", "Removed")),
    "what is not found is taken out": pre_tokenized(split(r"\p{L}+|\p{N}", "Removed", invert=True)),
    "joined with what is before": pre_tokenized(split(r"\p{P}|\s", "MergedWithPrevious")),
    "joined with what is behind": pre_tokenized(split(r"\p{P}|\s", "MergedWithNext")),
    "joined, the other way round": pre_tokenized(split(r"\p{L}", "MergedWithNext", invert=True)),
    "runs of both": pre_tokenized(split(r"\p{Lu}", "Contiguous")),
    "punctuation": pre_tokenized({"type": "Punctuation", "behavior": "Isolated"}, use_regex=True),
    "blanks taken out": pre_tokenized({"type": "WhitespaceSplit"}),
    "a look-ahead that wants one": pre_tokenized(split(r"a(?=[be])|\p{Ll}+(?!\p{Lu})|\d{2,}")),
    "NFC": normalized({"type": "NFC"}),
    "blanks off the ends": lambda d: (
        normalized({"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "NFC"})(d),
        d["added_tokens"].pop(5),
        [token.update(id=token["id"] - 1) for token in d["added_tokens"][5:]],
    ),
    "replaced": normalized(
        replaced("aa", "b"), {"type": "Replace", "pattern": {"Regex": r"\s{2,}|\p{So}"}, "content": "~"}
    ),
    "something before all": normalized({"type": "Prepend", "prepend": "x "}),
    "ByteLevel post-processor": lambda d: d.update(
        post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_hugging_face(definition: Definition, variant: str) -> None:
    tokenizer_json = changed(definition, VARIANTS[variant])
    theirs = HuggingFaceTokenizer.from_str(tokenizer_json)
    ours = Tokenizer.from_bytes(compile_tokenizer(tokenizer_json))
    texts = list(random_texts(2000, seed=11, specials=SPECIALS))
    for special in (True, False):
        theirs.encode_special_tokens = not special
        expected = [encoding.ids for encoding in theirs.encode_batch(texts, add_special_tokens=False)]
        differences = [
            (text, ids) for text, ids in zip(texts, expected, strict=True) if ours.encode(text, special) != ids
        ]
        assert differences == []


# --- tokenizers of characters -----------------------------------------------------------------------------------

BLANK = "\u2581"
LLAMA_2 = {
    "type": "Sequence",
    "decoders": [
        replaced(BLANK, " "),
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


@pytest.fixture(scope="module")
def characters() -> Definition:
    """A trained BPE over characters with SentencePiece's blank and byte fallback, as tokenizer.json's content."""
    tokenizer = HuggingFaceTokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", BLANK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(BLANK, "merged_with_next")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, limit_alphabet=200, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], show_progress=False
    )
    tokenizer.train_from_iterator(random_texts(3000, seed=6, specials=[]), trainer)
    content: Definition = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    content["normalizer"]["pattern"] = {"String": " "}
    content["pre_tokenizer"] = None
    content["decoder"] = LLAMA_2
    return content


def metaspace(scheme: str, split: bool) -> Change:
    both = {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": scheme, "split": split}
    return lambda d: d.update(normalizer=None, pre_tokenizer=both, decoder=both)


def with_tokens(*tokens: AddedToken) -> Change:
    def change(definition: Definition) -> None:
        loaded = HuggingFaceTokenizer.from_str(json.dumps(definition))
        loaded.add_tokens(list(tokens))
        definition.update(json.loads(loaded.to_str()))

    return change


CHARACTER_VARIANTS: dict[str, Change] = {
    "Llama 2": lambda d: normalized({"type": "Prepend", "prepend": BLANK}, replaced(" ", BLANK))(d),
    "Gemma": lambda d: (
        d.update(decoder={"type": "Sequence", "decoders": LLAMA_2["decoders"][:3]}),
        d.update(pre_tokenizer={**split("", "MergedWithPrevious"), "pattern": {"String": " "}}),
    ),
    "Metaspace, always": metaspace("always", True),
    "Metaspace, first": metaspace("first", True),
    "Metaspace, first, not split": metaspace("first", False),
    "Metaspace, never": metaspace("never", True),
    "of a release that said add_prefix_space": lambda d: (
        metaspace("always", True)(d),
        d["pre_tokenizer"].update(add_prefix_space=True),
        d["pre_tokenizer"].pop("prepend_scheme"),
        d["pre_tokenizer"].pop("split"),
    ),
    "no byte fallback": lambda d: d["model"].update(byte_fallback=False),
    "unknown tokens one by one": lambda d: d["model"].update(byte_fallback=False, fuse_unk=False),
    "unknown tokens dropped": lambda d: d["model"].update(byte_fallback=False, unk_token=None),
    "whole words first": lambda d: (
        d["model"].update(ignore_merges=True, byte_fallback=False),
        d.update(decoder={"type": "Sequence", "decoders": [replaced(BLANK, " "), {"type": "Fuse"}]}),
    ),
    "a merge over a blank": lambda d: (
        d["model"]["vocab"].update({f"a{BLANK}": 5000, f"a{BLANK}t": 5001}),
        d["model"]["merges"].insert(0, ["a", BLANK]),
        d["model"]["merges"].insert(0, [f"a{BLANK}", "t"]),
    ),
    "tokens in the normalized text": with_tokens(
        AddedToken("a b", normalized=True),
        AddedToken(" the ", normalized=True, lstrip=True),
        AddedToken("  ", normalized=False),
    ),
    "NFC and blanks": lambda d: normalized({"type": "NFC"}, replaced(" ", BLANK))(d),
    "runs of blanks to one": lambda d: normalized(
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, replaced(" ", BLANK)
    )(d),
}


@pytest.mark.parametrize("variant", CHARACTER_VARIANTS)
def test_characters_equal_hugging_face(characters: Definition, variant: str) -> None:
    tokenizer_json = changed(characters, CHARACTER_VARIANTS[variant])
    theirs = HuggingFaceTokenizer.from_str(tokenizer_json)
    ours = Tokenizer.from_bytes(compile_tokenizer(tokenizer_json))
    specials = ["<s>", "</s>", "<unk>"] if variant != "whole words first" else []
    texts = list(random_texts(2000, seed=12, specials=[*specials, "<0x41>", BLANK, " the "]))
    for special in (True, False):
        theirs.encode_special_tokens = not special
        encoded = [encoding.ids for encoding in theirs.encode_batch(texts, add_special_tokens=False)]
        differences = [
            (text, ids) for text, ids in zip(texts, encoded, strict=True) if ours.encode(text, special) != ids
        ]
        assert differences == []
        decoded = theirs.decode_batch(encoded, skip_special_tokens=special)
        assert [ours.decode(ids, skip_special=special) for ids in encoded] == decoded


def test_a_whole_word_is_no_special_token(characters: Definition) -> None:
    """Where Hugging Face would give a special token for a user's text, because it is in the vocabulary like a word."""
    tokenizer = Tokenizer.from_bytes(compile_tokenizer(changed(characters, CHARACTER_VARIANTS["whole words first"])))
    assert tokenizer.encode("</s>", special=True) == [2]
    assert 2 not in tokenizer.encode("</s>", special=False)


def test_decoding_characters_equals_hugging_face(characters: Definition) -> None:
    """Random ids make runs of byte tokens that are no UTF-8, and blanks at the start."""
    for variant in ("Llama 2", "Gemma", "Metaspace, always", "Metaspace, never"):
        tokenizer_json = changed(characters, CHARACTER_VARIANTS[variant])
        theirs = HuggingFaceTokenizer.from_str(tokenizer_json)
        ours = Tokenizer.from_bytes(compile_tokenizer(tokenizer_json))
        source = random.Random(4)
        for _ in range(2000):
            top = 270 if source.random() < 0.5 else ours.vocab_size + 3
            ids = [source.randrange(top) for _ in range(source.randrange(12))]
            for skip in (True, False):
                assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip), (variant, ids, skip)


def test_a_text_that_is_not_the_start_gets_no_blank(characters: Definition) -> None:
    """Metaspace's scheme "first": Hugging Face sees the whole prompt, a device one part between special tokens."""
    tokenizer_json = changed(characters, metaspace("first", True))
    theirs = HuggingFaceTokenizer.from_str(tokenizer_json)
    ours = Tokenizer.from_bytes(compile_tokenizer(tokenizer_json))
    whole = theirs.encode("<s>the word</s>the", add_special_tokens=False).ids
    parts = [[1], ours.encode("the word", False, at_start=False), [2], ours.encode("the", False, at_start=False)]
    assert [token for part in parts for token in part] == whole
    assert ours.encode("the word", special=False) != parts[1]


def test_what_opens_every_text(characters: Definition) -> None:
    loaded = HuggingFaceTokenizer.from_str(json.dumps(characters))
    loaded.post_processor = processors.Sequence(
        [processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])]
    )
    ours = Tokenizer.from_bytes(compile_tokenizer(loaded.to_str()))
    assert ours.start_ids == (1,)
    for text in ("", "a b", "</s>"):
        assert ours.encode_raw(text) == loaded.encode(text).ids
    assert ours.encode_raw("<s>a") == ours.encode("<s>a", special=True)


# --- text -------------------------------------------------------------------------------------------------------


def test_decode_equals_hugging_face(definition: Definition) -> None:
    """Random ids are mostly broken UTF-8; some ids are special, some beyond the vocabulary."""
    tokenizer_json = json.dumps(definition)
    theirs = HuggingFaceTokenizer.from_str(tokenizer_json)
    ours = Tokenizer.from_bytes(compile_tokenizer(tokenizer_json))
    source = random.Random(3)
    for _ in range(3000):
        top = 256 if source.random() < 0.5 else ours.vocab_size + 3
        ids = [source.randrange(top) for _ in range(source.randrange(12))]
        for skip in (True, False):
            assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip), (ids, skip)


def test_an_id_that_only_a_padded_table_has_is_no_bytes(definition: Definition) -> None:
    tokenizer = Tokenizer.from_bytes(compile_tokenizer(json.dumps(definition)))
    assert tokenizer.token_bytes(tokenizer.vocab_size - 1) != b""
    assert tokenizer.token_bytes(tokenizer.vocab_size + 7) == b""


def test_a_special_token_in_user_text_is_text(definition: Definition) -> None:
    tokenizer = Tokenizer.from_bytes(compile_tokenizer(json.dumps(definition)))
    end = next(token.id for token in tokenizer.added_tokens if token.content == "<|end|>")
    assert end in tokenizer.encode("a<|end|>b", special=True)
    assert end not in tokenizer.encode("a<|end|>b", special=False)
    assert tokenizer.decode(tokenizer.encode("a<|end|>b", special=False), skip_special=True) == "a<|end|>b"


def test_an_unpaired_surrogate_counts_as_a_replacement_character(definition: Definition) -> None:
    tokenizer = Tokenizer.from_bytes(compile_tokenizer(json.dumps(definition)))
    assert tokenizer.encode("a\ud800b\udfff", special=True) == tokenizer.encode("a\ufffdb\ufffd", special=True)


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "ab" * 100_000, " " * 200_000, "<" * 200_000, "e\u0301\u0323" * 60_000]
)
@pytest.mark.parametrize("kind", ["definition", "characters"])
def test_long_monotonous_text(request: pytest.FixtureRequest, kind: str, text: str) -> None:
    """One piece as long as the text: a quadratic merge would take hours, a recursive one would overflow."""
    tokenizer_json = changed(request.getfixturevalue(kind), normalized({"type": "NFC"}))
    expected = HuggingFaceTokenizer.from_str(tokenizer_json).encode(text, add_special_tokens=False).ids
    assert Tokenizer.from_bytes(compile_tokenizer(tokenizer_json)).encode(text, special=True) == expected


def first_token(definition: Definition) -> Definition:
    token: Definition = next(token for token in definition["added_tokens"] if token["content"] == "<|start|>")
    return token


REFUSALS: dict[str, tuple[Change, str]] = {
    "normalizer": (normalized({"type": "NFC"}, {"type": "NFKC"}), "normalizer Sequence(NFC, NFKC)"),
    "post-processor": (
        lambda d: d.update(post_processor={"type": "BertProcessing", "sep": ["!", 0], "cls": ["!", 0]}),
        "BertProcessing",
    ),
    "tokens behind a text": (
        lambda d: d.update(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|end|>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [701], "tokens": ["<|end|>"]}},
            }
        ),
        "adds tokens behind a text",
    ),
    "no decoder": (lambda d: d.update(decoder=None), "no decoder"),
    "decoder": (lambda d: d.update(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}), "WordPiece"),
    "decoder of characters": (lambda d: d.update(decoder={"type": "Fuse"}), "Fuse with pieces of bytes"),
    "strip before fuse": (
        lambda d: d.update(decoder={"type": "Strip", "content": " ", "start": 1, "stop": 0}),
        "decoder Strip",
    ),
    "model": (lambda d: d.update(model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}), "model Unigram"),
    "dropout": (lambda d: d["model"].update(dropout=0.1), "dropout = 0.1"),
    "byte_fallback": (lambda d: d["model"].update(byte_fallback=True), "byte_fallback"),
    "prefix": (lambda d: d["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
    "suffix": (lambda d: d["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
    "unknown token missing": (lambda d: without_bytes(d, "<unk>"), "'<unk>'"),
    "no pre-tokenizer": (lambda d: d.update(pre_tokenizer=None), "decoder ByteLevel with pieces of characters"),
    "pre-tokenizer": (lambda d: d.update(pre_tokenizer={"type": "UnicodeScripts"}), "UnicodeScripts"),
    "ByteLevel not last": (lambda d: d["pre_tokenizer"]["pretokenizers"].reverse(), "ByteLevel before others"),
    "look-behind": (pre_tokenized(split(r"(?<=a)b")), "the group (?<"),
    "look-ahead over two": (pre_tokenized(split(r"a(?!bc)")), "a look-ahead over more than one character"),
    "lazy": (pre_tokenized(split(r"a+?b")), "a lazy, possessive or nested repeat"),
    "any character": (pre_tokenized(split(r"a.")), "the sign ."),
    "back reference": (pre_tokenized(split(r"(a)\1")), "the escape \\1"),
    "sets inside sets": (pre_tokenized(split(r"[a[bc]]")), "a set inside a set"),
    "ignoring case of more": (pre_tokenized(split(r"(?i:[ab])")), "(?i: with anything but single characters"),
    "matches nothing": (pre_tokenized(split(r"a*")), "matches an empty text"),
    "quadratic": (pre_tokenized(split(r"a*b|a")), "quadratic time"),
    "id taken": (lambda d: first_token(d).update(id=5), "'<|start|>' (id 5) clashes"),
    "two ids": (lambda d: d["model"]["vocab"].update({"<|start|>": 9000}), "'<|start|>' has id"),
    "id out of order": (
        lambda d: first_token(d).update(id=9001),
        "id 9001 in tokenizer.json and 700 in Hugging Face's",
    ),
    "unreadable": (lambda d: first_token(d).update(special="maybe"), "Hugging Face's tokenizers refuse"),
    "id twice": (lambda d: d["model"]["vocab"].update({"new": 5}), "one id to several tokens"),
    "merge of nothing": (lambda d: d["model"]["merges"].append(["\u0100", "nothing"]), "`nothing`"),
    "no vocabulary": (lambda d: d["model"].update(vocab={}), "empty vocabulary"),
    "no model": (lambda d: d.pop("model"), "no model"),
}


@pytest.mark.parametrize("construct", REFUSALS)
def test_refuses_by_name(definition: Definition, construct: str) -> None:
    change, named = REFUSALS[construct]
    with pytest.raises(TokenizerError) as caught:
        compile_tokenizer(changed(definition, change))
    assert named in str(caught.value)


def test_refuses_special_tokens_that_a_user_could_make(characters: Definition) -> None:
    model = characters["model"]
    merged = {**model, "vocab": {**model["vocab"], "</s": 5000}, "merges": [*model["merges"], ["</s", ">"]]}
    with pytest.raises(TokenizerError, match="merge that gives the special token '</s>'"):
        compile_tokenizer(json.dumps({**characters, "model": merged}))
    letter = {**characters["added_tokens"][0], "id": model["vocab"]["e"], "content": "e"}
    with pytest.raises(TokenizerError, match="special token 'e' of a single character"):
        compile_tokenizer(json.dumps({**characters, "added_tokens": [*characters["added_tokens"], letter]}))


def test_refuses_what_is_no_json() -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is no JSON"):
        compile_tokenizer("{")


def test_damaged_files_are_refused(definition: Definition) -> None:
    data = compile_tokenizer(json.dumps(definition))
    for length in (0, 7, 15, 20, 200, len(data) // 2, len(data) - 1):
        with pytest.raises(BundleError):
            Tokenizer.from_bytes(data[:length])
    with pytest.raises(BundleError, match="format version 1"):
        Tokenizer.from_bytes(data[:8] + struct.pack("<I", 1) + data[12:])
    with pytest.raises(BundleError, match="SATCHTOK"):
        Tokenizer.from_bytes(b"\0" * 100)


@pytest.mark.parametrize(
    ("section", "content", "named"),
    [
        (Section.PRE_TOKENIZER, struct.pack("<III", 99, 0, 0), "operation 99"),
        (Section.DECODER, struct.pack("<III", 98, 0, 0), "decoder 98"),
        (Section.MODEL, struct.pack("<IIIII", 7, 700, 0, 0, 5), "model 7"),
    ],
)
def test_unknown_parts_are_refused(definition: Definition, section: Section, content: bytes, named: str) -> None:
    sections = unpack_sections(compile_tokenizer(json.dumps(definition)))
    parts = [(Section(kind), content if kind == section else bytes(part)) for kind, part in sections.items()]
    with pytest.raises(BundleError, match=named):
        Tokenizer.from_bytes(pack_sections(parts))


def test_sections_are_aligned_and_the_file_is_reproducible(definition: Definition) -> None:
    data = compile_tokenizer(json.dumps(definition))
    assert compile_tokenizer(json.dumps(definition)) == data
    (count,) = struct.unpack_from("<I", data, 12)
    offsets = [struct.unpack_from("<III", data, 16 + 12 * index)[1] for index in range(count)]
    assert [offset % 8 for offset in offsets] == [0] * count
    steps = struct.iter_unpack("<III", unpack_sections(data)[Section.PRE_TOKENIZER])
    assert list(steps) == [(Op.SPLIT, 0, 0), (Op.SPLIT, 1, 0)]


def test_the_file_says_what_its_tables_were_made_from(definition: Definition) -> None:
    info = bytes(unpack_sections(compile_tokenizer(json.dumps(definition)))[Section.INFO]).decode()
    values = dict(line.split("=") for line in info.splitlines())
    assert values["tokenizers"] == tokenizers.__version__
    assert float(values["unicode-regex"]) >= 15.0
    assert float(values["unicode-digits"]) >= 15.0
