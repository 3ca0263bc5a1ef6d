"""Token ids in, deltas out; text in whole grapheme clusters; and whole generations: calls, chunks, finish reasons."""

import random
from typing import Any

from cases.scripted import END, START, TOKENIZER, ScriptedEngine, ids_of
from satchel.reference.graphemes import WholeGraphemes
from satchel.reference.session import GenerateOptions, generate
from satchel.reference.stream import TextStream

TEXTS = (
    "Hello world",
    "\u4f60\u597d",
    "\U0001f600\U0001f600 it's",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "e\u0301 \u00e9",
    "\U0001f1e9\U0001f1ea\u2764\ufe0f\U0001f44d\U0001f3fd",
    "\ufffd\uffff\x00",
)
MALFORMED = (
    "80", "c2", "c241", "e282", "e28241", "f09f98", "f09f9841", "eda080", "f5808080", "c0af", "f0f0f09f9880",
    "e4bda0e5a5", "41e28242f09f4380", "bfbf41", "f4908080",
)  # fmt: skip

# Pieces as tokens might bring them, by the rules of UAX #29 that they are about.
PIECES: tuple[tuple[str, ...], ...] = (
    (),
    ("", "a", "", "b", ""),
    ("Hello", " world", "", "!"),
    ("cafe", "\u0301", " au", " lait"),  # GB9: Extend
    ("e", "\u0301", "\u0323", "\u0308", "x"),
    ("no e", "\u0301\u0301 more", "\u0301"),
    ("\u0301", "a"),  # begins with a mark
    ("a\n", "\u0301", "b"),  # GB4: nothing joins the end of a line
    ("a\r", "\nb", "\r", "\r\n", "\n"),  # GB3
    ("a\x00", "\u200d", "\u0300"),
    ("a\u200b", "\u0300"),
    ("\U0001f468", "\u200d", "\U0001f469", "\u200d\U0001f467", "!"),  # GB11
    ("\U0001f468\u200d", "\U0001f469 and \U0001f469", "\u200d\U0001f4bb"),
    ("\U0001f469", "\U0001f3fd", "\u200d", "\U0001f680", "\U0001f469"),
    ("a", "\u200d", "\U0001f469"),  # no pictograph before it
    ("\U0001f469\u200d\u200d", "\U0001f469"),
    ("\u2764", "\ufe0f", "\u200d", "\U0001f525", " "),
    ("1", "\ufe0f", "\u20e3", "2"),
    ("\U0001f44d", "\U0001f3fd", "\U0001f44d", "\U0001f3fd"),
    ("\U0001f1e9", "\U0001f1ea", "\U0001f1eb", "\U0001f1f7", "\U0001f1ee"),  # GB12, GB13
    ("a\U0001f1e9", "\U0001f1ea\U0001f1eb", "\U0001f1f7\U0001f1ee", "x"),
    ("\U0001f1e9", "\u0308", "\U0001f1ea"),
    ("\U0001f3f4", *(chr(0xE0000 + ord(letter)) for letter in "gbeng"), "\U000e007f", "."),
    ("\u1112", "\u1161", "\u11ab", "\u1100", "\u1173", "\u11af", "."),  # GB6, GB7, GB8
    ("\ud55c", "\uae00", "\uac00", "\u11a8", "\u1161"),
    ("\uac01", "\u11a8", "\u1100", "\uac01", "\u1161"),
    ("\u0915", "\u094d", "\u0937", "\u093f", "\u0915"),  # GB9c, GB9a
    ("\u0915", "\u094d", "\u200d", "\u0937", "\u094d\u0930"),
    ("\u0915", "\u094d", "\u200c", "\u0937"),
    ("a", "\u094d", "\u0937"),
    ("\u1cf5", "\u0995", "\u0995"),
    ("\U0001f469", "\u094d", "\u200d", "\u0937", "\U0001f469"),
    ("\u0e01", "\u0e33", "\u0e01\u0e48", "\u0e32"),
    ("\u05e9", "\u05c1", "\u05b8", "\u05dc"),
    ("\u0600", "1", "\u0600", "\n", "2"),  # GB9b
    ("\u0600\u0600", "\u0301", "1"),
    ("\ufffd", "\u0301", "\ufffd\ufffd"),
    ("z" + 20 * "\u0335", 20 * "\u0335", "a"),
    ("\U0010ffff", "\ue000", "\u0300\uffff"),
)


def delta_cases() -> list[dict[str, Any]]:
    """Whole characters byte by byte, bytes that are no text, special tokens in between, and random ids."""
    by_byte = {bytes([byte]): ids_of(chr(byte))[0] for byte in range(128)}
    by_byte.update((bytes([byte]), token) for token, byte in _single_bytes())
    source = random.Random(5)
    lists = [[by_byte[bytes([byte])] for byte in text.encode()] for text in TEXTS]
    lists += [[by_byte[bytes([byte])] for byte in bytes.fromhex(text)] for text in MALFORMED]
    lists += [[START, *lists[1][:2], END, *lists[1][2:]], [START, END], []]
    lists += [[source.randrange(TOKENIZER.vocab_size) for _ in range(source.randrange(2, 9))] for _ in range(10)]
    cases = []
    for ids in lists:
        stream = TextStream(TOKENIZER)
        cases.append({"ids": ids, "deltas": [*(stream.push(token) for token in ids), stream.finish()]})
    return cases


def grapheme_cases() -> list[dict[str, Any]]:
    """The pieces above, and random ones of the characters in them."""
    source = random.Random(6)
    characters = sorted({character for pieces in PIECES for piece in pieces for character in piece})
    drawn = [["".join(source.choices(characters, k=source.randrange(1, 4))) for _ in range(8)] for _ in range(40)]
    cases = []
    for pieces in (*PIECES, *drawn):
        graphemes = WholeGraphemes(TOKENIZER.grapheme_breaks)
        cases.append({"pieces": pieces, "shown": [*map(graphemes.push, pieces), graphemes.finish()]})
    return cases


def _single_bytes() -> list[tuple[int, int]]:
    """Ids of the bytes that are no text by themselves."""
    return [
        (token, TOKENIZER.token_bytes(token)[0])
        for token in range(256)
        if len(TOKENIZER.token_bytes(token)) == 1 and TOKENIZER.token_bytes(token)[0] >= 128
    ]


def generate_cases() -> list[dict[str, Any]]:
    text = ids_of("Hello world \u4f60\U0001f468\U0001f600 it's")
    settings: tuple[tuple[int, int, int, int, list[int]], ...] = (
        # prompt, context, chunk, max_new_tokens, answer
        (5, 64, 4, 256, [*text, END]),
        (8, 64, 4, 256, [START, *text[:4], START, *text[4:], END]),
        (1, 64, 64, 256, [END]),
        (3, 64, 2, 5, text),
        (3, 64, 2, len(text) - 1, text),
        (9, 12, 4, 256, text),
        (12, 12, 5, 256, text),
        (11, 12, 5, 1, text),
        (2, 64, 8, 12, [*ids_of("\u20ac")[:2], *text]),
        (2, 64, 8, 4, ids_of("\U0001f468")[:3]),
        (2, 64, 8, 256, [*ids_of("e\u0301e\u0301 it"), END]),
        (2, 64, 8, 4, ids_of("e\u0301\u0323\u0308\u0301")),
        (2, 64, 8, 256, [*ids_of("\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea!"), END]),
    )
    cases: list[dict[str, Any]] = []
    for prompt, context, chunk, max_new_tokens, answer in settings:
        engine = ScriptedEngine(context, chunk)
        engine.prompt, engine.answer = prompt, answer
        options = GenerateOptions(max_new_tokens=max_new_tokens)
        chunks = list(generate(engine, TOKENIZER, [7] * prompt, [END], options))
        cases.append(
            {
                "prompt": prompt,
                "context_length": context,
                "prefill_chunk": chunk,
                "options": {"max_new_tokens": max_new_tokens},
                "answer": answer,
                "calls": engine.calls,
                "chunks": [{"text": chunk.text, "ids": chunk.ids} for chunk in chunks],
                "finish_reason": chunks[-1].finish_reason,
            }
        )
    return cases


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""
    return {
        "streaming.json": {
            "deltas": delta_cases(),
            "graphemes": grapheme_cases(),
            "generations": generate_cases(),
            "stop_id": END,
        }
    }
