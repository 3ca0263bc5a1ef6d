"""The reference tokenizer against Hugging Face's, on tokenizers made here, and what it refuses."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from random_text import random_texts
from satchel.errors import BundleError, TokenizerError
from satchel.reference.tokenizer import Tokenizer, compile_tokenizer
from satchel.reference.tokenizer_format import Op, Section, pack_sections, unpack_sections

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


def test_a_special_token_in_user_text_is_text(definition: Definition) -> None:
    tokenizer = Tokenizer.from_bytes(compile_tokenizer(json.dumps(definition)))
    end = next(token.id for token in tokenizer.added_tokens if token.content == "<|end|>")
    assert end in tokenizer.encode("a<|end|>b", special=True)
    assert end not in tokenizer.encode("a<|end|>b", special=False)
    assert tokenizer.decode(tokenizer.encode("a<|end|>b", special=False), skip_special=True) == "a<|end|>b"


def test_an_unpaired_surrogate_counts_as_a_replacement_character(definition: Definition) -> None:
    tokenizer = Tokenizer.from_bytes(compile_tokenizer(json.dumps(definition)))
    assert tokenizer.encode("a\ud800b\udfff", special=True) == tokenizer.encode("a\ufffdb\ufffd", special=True)


@pytest.mark.parametrize("text", ["a" * 200_000, "ab" * 100_000, " " * 200_000, "<" * 200_000])
def test_long_monotonous_text(definition: Definition, text: str) -> None:
    """One piece as long as the text: a quadratic merge would take hours, a recursive one would overflow."""
    tokenizer_json = json.dumps(definition)
    expected = HuggingFaceTokenizer.from_str(tokenizer_json).encode(text, add_special_tokens=False).ids
    assert Tokenizer.from_bytes(compile_tokenizer(tokenizer_json)).encode(text, special=True) == expected


def first_token(definition: Definition) -> Definition:
    token: Definition = next(token for token in definition["added_tokens"] if token["content"] == "<|start|>")
    return token


REFUSALS: dict[str, tuple[Change, str]] = {
    "normalizer": (lambda d: d.update(normalizer={"type": "NFC"}), "normalizer NFC"),
    "normalizers": (
        lambda d: d.update(normalizer={"type": "Sequence", "normalizers": [{"type": "Strip"}, {"type": "NFKC"}]}),
        "Sequence(Strip, NFKC)",
    ),
    "post-processor": (lambda d: d.update(post_processor={"type": "TemplateProcessing"}), "TemplateProcessing"),
    "no decoder": (lambda d: d.update(decoder=None), "no decoder"),
    "decoder": (lambda d: d.update(decoder={"type": "Fuse"}), "decoder Fuse"),
    "model": (lambda d: d["model"].update(type="Unigram"), "model Unigram"),
    "dropout": (lambda d: d["model"].update(dropout=0.1), "dropout = 0.1"),
    "byte_fallback": (lambda d: d["model"].update(byte_fallback=True), "byte_fallback"),
    "ignore_merges": (lambda d: d["model"].update(ignore_merges=True), "ignore_merges"),
    "prefix": (lambda d: d["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
    "suffix": (lambda d: d["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
    "fused unknown": (
        lambda d: (without_bytes(d, "!"), d["model"].update(fuse_unk=True)),
        "fuse_unk",
    ),
    "unknown token missing": (lambda d: without_bytes(d, "<unk>"), "'<unk>'"),
    "no pre-tokenizer": (lambda d: d.update(pre_tokenizer=None), "no pre-tokenizer"),
    "pre-tokenizer": (lambda d: d.update(pre_tokenizer={"type": "Metaspace"}), "Metaspace"),
    "pre-tokenizer before": (lambda d: d["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Split"}), "Split"),
    "ByteLevel not last": (lambda d: d["pre_tokenizer"]["pretokenizers"].reverse(), "ByteLevel before others"),
    "single_word": (lambda d: first_token(d).update(single_word=True), "single_word on the added token '<|start|>'"),
    "id taken": (lambda d: first_token(d).update(id=5), "'<|start|>' (id 5) clashes"),
    "two ids": (lambda d: d["model"]["vocab"].update({"<|start|>": 9000}), "'<|start|>' has id"),
    "id out of order": (
        lambda d: first_token(d).update(id=9001),
        "id 9001 in tokenizer.json and 700 in Hugging Face's",
    ),
    "unreadable": (lambda d: first_token(d).update(special="maybe"), "Hugging Face's tokenizers refuse"),
    "id twice": (lambda d: d["model"]["vocab"].update({"new": 5}), "one id to several tokens"),
    "merge of nothing": (lambda d: d["model"]["merges"].append(["\u0100", "nothing"]), "'nothing'"),
    "no vocabulary": (lambda d: d["model"].update(vocab={}), "empty vocabulary"),
    "no model": (lambda d: d.pop("model"), "no model"),
}


@pytest.mark.parametrize("construct", REFUSALS)
def test_refuses_by_name(definition: Definition, construct: str) -> None:
    change, named = REFUSALS[construct]
    with pytest.raises(TokenizerError) as caught:
        compile_tokenizer(changed(definition, change))
    assert named in str(caught.value)


def test_refuses_what_is_no_json() -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is no JSON"):
        compile_tokenizer("{")


def test_damaged_files_are_refused(definition: Definition) -> None:
    data = compile_tokenizer(json.dumps(definition))
    for length in (0, 7, 15, 20, 200, len(data) // 2, len(data) - 1):
        with pytest.raises(BundleError):
            Tokenizer.from_bytes(data[:length])
    with pytest.raises(BundleError, match="format version 2"):
        Tokenizer.from_bytes(data[:8] + struct.pack("<I", 2) + data[12:])
    with pytest.raises(BundleError, match="SATCHTOK"):
        Tokenizer.from_bytes(b"\0" * 100)


@pytest.mark.parametrize(
    ("section", "content", "named"),
    [
        (Section.OPS, struct.pack("<II", 99, 0), "operation 99"),
        (Section.MODEL, struct.pack("<III", 7, 1, 700), "model 7"),
    ],
)
def test_unknown_parts_are_refused(definition: Definition, section: Section, content: bytes, named: str) -> None:
    sections = unpack_sections(compile_tokenizer(json.dumps(definition)))
    parts = [(kind, content if kind == section else bytes(sections[kind])) for kind in Section]
    with pytest.raises(BundleError, match=named):
        Tokenizer.from_bytes(pack_sections(parts))


def test_sections_are_aligned_and_the_file_is_reproducible(definition: Definition) -> None:
    data = compile_tokenizer(json.dumps(definition))
    assert compile_tokenizer(json.dumps(definition)) == data
    (count,) = struct.unpack_from("<I", data, 12)
    offsets = [struct.unpack_from("<III", data, 16 + 12 * index)[1] for index in range(count)]
    assert [offset % 8 for offset in offsets] == [0] * count
    assert struct.unpack("<II", unpack_sections(data)[Section.OPS][:8]) == (Op.DIGITS, 1)


def test_the_file_says_what_its_tables_were_made_from(definition: Definition) -> None:
    info = bytes(unpack_sections(compile_tokenizer(json.dumps(definition)))[Section.INFO]).decode()
    values = dict(line.split("=") for line in info.splitlines())
    assert values["tokenizers"] == tokenizers.__version__
    assert float(values["unicode-regex"]) >= 15.0
    assert float(values["unicode-digits"]) >= 15.0
