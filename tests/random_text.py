"""Random texts that reach every corner of a tokenizer, the same for the same seed."""

import random
from collections.abc import Iterator, Sequence

_SCRIPTS = (
    (0x20, 0x7F),  # Basic Latin
    (0xA0, 0x250),  # Latin with marks, no-break space
    (0x300, 0x370),  # combining marks
    (0x370, 0x530),  # Greek, Cyrillic
    (0x590, 0x780),  # Hebrew, Arabic
    (0x900, 0xE00),  # Indic scripts and their digits
    (0xE00, 0x1200),  # Thai, Tibetan, Georgian, Hangul
    (0x1680, 0x1800),  # Ogham (with its space), Khmer
    (0x2000, 0x2070),  # spaces, joiners, directional marks, line separators
    (0x2070, 0x2C00),  # superscripts, currency, letter-like numbers, box drawing
    (0x3000, 0x3400),  # CJK punctuation, kana, circled numbers
    (0x4E00, 0xA000),  # CJK
    (0xAC00, 0xD7A4),  # Hangul
    (0xE000, 0xE100),  # private use
    (0xF900, 0x10000),  # compatibility forms, variation selectors, byte order mark
    (0x10000, 0x12000),  # old scripts
    (0x1D400, 0x1D800),  # mathematical letters and digits
    (0x1F000, 0x1FB00),  # emoji
    (0x20000, 0x20100),  # CJK extension
    (0xE0000, 0xE0200),  # tags
    (0x10FF00, 0x110000),  # the end
)
_PIECES = (
    "'s", "'S", "'ll", "'re", "'ve", "'d", "'m", "'t", "''", "don't", "I'm ", " the", "hello", " World", "\n", "\n\n",
    "\r\n", "\t", "  ", "   ", " \n ", "\u00a0", "\u3000", "\u2028", "\u200d", "\ufe0f", "\ufffd", "\x00", "\x7f",
    "\x85", "0", "123", " 42", "3.14", "\u00b2", "\u00bd", "\u2167", "\u0663",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea", "e\u0301", "\u00e9", "...", " --", "!?", "{{ x }}", "{% if %}", "def f(x):\n    return x\n",
    "<|", "|>", "im_start", "aaaaaaaa", "\u4f60\u597d", " \u043f\u0440\u0438",
    "\u0645\u0631\u062d\u0628\u0627",
)  # fmt: skip


def random_texts(count: int, seed: int, specials: Sequence[str]) -> Iterator[str]:
    """`count` texts of 0 to about 80 characters, without surrogates; `specials` are sprinkled in, whole and broken."""
    source = random.Random(seed)
    for _ in range(count):
        script = source.choice(_SCRIPTS)
        parts = []
        for _ in range(source.randrange(14)):
            kind = source.random()
            if kind < 0.35:
                parts.append(source.choice(_PIECES))
            elif kind < 0.65:
                parts.append("".join(chr(source.randrange(*script)) for _ in range(source.randrange(1, 8))))
            elif kind < 0.75:
                parts.append(_any_character(source))
            elif kind < 0.8:
                parts.append(chr(source.randrange(0x20)))
            elif kind < 0.85:
                parts.append(" " * source.randrange(1, 12))
            elif specials:
                special = source.choice(specials)
                parts.append(special if source.random() < 0.7 else special[: source.randrange(len(special))])
        yield "".join(parts)


def _any_character(source: random.Random) -> str:
    while 0xD800 <= (point := source.randrange(0x110000)) < 0xE000:
        pass
    return chr(point)
