"""The reference tokenizer against Hugging Face's, on tokenizers made here."""

import json
import random

import pytest
from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as HuggingFaceTokenizer

from random_text import random_texts
from satchel.compile.tokenizer import compile_tokenizer
from satchel.reference.tokenizer import Tokenizer
from trained_tokenizers import (
    BLANK,
    LLAMA_2,
    SPECIALS,
    Change,
    Definition,
    changed,
    normalized,
    pre_tokenized,
    replaced,
    split,
    without_bytes,
)

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
