"""Holds the reference tokenizer and the Kotlin one against Hugging Face's on random texts and random ids."""

import random
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from tokenizers import Tokenizer as HuggingFaceTokenizer

from random_text import random_texts
from satchel.package.android.sdk import CompiledSdk
from satchel.reference.tokenizer import Tokenizer
from satchel.tools import Tools

_BATCH = 10_000
_SPECIALS = 400  # of thousands of added tokens, so many are sprinkled into the texts


@dataclass(frozen=True)
class Case:
    """What Hugging Face makes of a text; text None: of ids alone."""

    text: str | None
    special: bool
    ids: Sequence[int]
    skip_special: bool
    decoded: str


def cases(tokenizer_json: str, texts: int, seed: int) -> Iterator[Case]:
    """`texts` random texts, with and without special tokens by turns, and a tenth as many lists of random ids."""
    theirs = HuggingFaceTokenizer.from_str(tokenizer_json)
    added = [token.content for token in theirs.get_added_tokens_decoder().values()]
    source = random.Random(seed)
    if len(added) > _SPECIALS:
        added = source.sample(added, _SPECIALS)
    stream = random_texts(texts, seed=seed, specials=added)
    special = True
    while batch := list(islice(stream, _BATCH)):
        theirs.encode_special_tokens = not special
        encoded = [encoding.ids for encoding in theirs.encode_batch_fast(batch, add_special_tokens=False)]
        decoded = theirs.decode_batch(encoded, skip_special_tokens=special)
        for text, ids, back in zip(batch, encoded, decoded, strict=True):
            yield Case(text, special, ids, special, back)
        special = not special
    count = theirs.get_vocab_size()
    for top in (300, count):
        lists = [[source.randrange(top) for _ in range(source.randrange(12))] for _ in range(texts // 20)]
        for ids, back in zip(lists, theirs.decode_batch(lists, skip_special_tokens=False), strict=True):
            yield Case(None, False, ids, False, back)


def hold_against_hugging_face(
    tokenizer_json: str, binary: Path, sdk: CompiledSdk, texts: int, seed: int
) -> tuple[int, int]:
    """The number of equal cases in Python and in Kotlin. Fails at the first that is not."""
    ours = Tokenizer.from_bytes(binary.read_bytes())
    command = [str(Tools().java.executable), "-Xmx512m", "-cp", ":".join(map(str, sdk.host_class_path))]
    command += ["dev.satchel.host.Tokenize", "compare", str(binary)]
    compared = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as kotlin:
        assert kotlin.stdin is not None and kotlin.stdout is not None and kotlin.stderr is not None
        try:
            for case in cases(tokenizer_json, texts, seed):
                write(kotlin.stdin, case)
                if case.text is not None:
                    assert ours.encode(case.text, case.special) == case.ids, ascii(case.text)
                assert ours.decode(case.ids, case.skip_special) == case.decoded, case.ids
                compared += 1
            kotlin.stdin.close()
        except BrokenPipeError:
            pass  # it has found a difference
        answer, complaint = kotlin.stdout.read().decode(), kotlin.stderr.read().decode()
    assert complaint == "", complaint
    return compared, int(answer)


def write(stream: IO[bytes], case: Case) -> None:
    """One case in the form that `Tokenize compare` reads."""
    text = None if case.text is None else case.text.encode()
    decoded = case.decoded.encode()
    stream.write(struct.pack(">ii", case.special, -1 if text is None else len(text)) + (text or b""))
    stream.write(struct.pack(f">i{len(case.ids)}ii", len(case.ids), *case.ids, case.skip_special))
    stream.write(struct.pack(">i", len(decoded)) + decoded)
