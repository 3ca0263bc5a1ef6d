"""What the tokenizer's compiler and its reader refuse, by name, and what the file looks like."""

import json
import struct

import pytest
import tokenizers

from satchel.compile.tokenizer import compile_tokenizer
from satchel.errors import BundleError, TokenizerError
from satchel.reference.tokenizer import Tokenizer
from satchel.reference.tokenizer_format import Op, Section, pack_sections, unpack_sections
from trained_tokenizers import Change, Definition, changed, normalized, pre_tokenized, split, without_bytes


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
