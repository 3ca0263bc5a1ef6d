"""The layout of `tokenizer.bin`: numbers and packing shared by the compiler and the reader.

docs/tokenizer-format.md is the specification. Everything is little endian, every section starts at a multiple of 8,
so a device maps the arrays as they lie in the file.
"""

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag

from satchel.errors import BundleError

MAGIC = b"SATCHTOK"
VERSION = 3
ALIGNMENT = 8

_HEADER = struct.Struct("<8sII")  # magic, version, number of sections
_ENTRY = struct.Struct("<III")  # kind, offset from the start of the file, length in bytes

CODE_POINTS = 0x110000

# Hangul syllables are composed by arithmetic, not by a table (Unicode standard, 3.12).
HANGUL_BASE, HANGUL_COUNT = 0xAC00, 11172
LEAD_BASE, LEAD_COUNT = 0x1100, 19
VOWEL_BASE, VOWEL_COUNT = 0x1161, 21
TRAIL_BASE, TRAIL_COUNT = 0x11A7, 28
NO_TOKEN = 0xFFFFFFFF


class Section(IntEnum):
    """What a section holds; readers skip kinds that they don't know."""

    INFO = 1
    MODEL = 2
    NORMALIZER = 3
    PRE_TOKENIZER = 4
    DECODER = 5
    TEXTS = 6
    AUTOMATA = 7
    CLASS_PAGES = 8
    CLASSES = 9
    TOKEN_FLAGS = 10
    TOKEN_OFFSETS = 11
    TOKEN_BYTES = 12
    BYTE_IDS = 13
    MERGE_ROWS = 14
    MERGES = 15
    WORDS = 16
    ADDED_TOKENS = 17
    ADDED_POINTS = 18
    START_IDS = 19
    CANONICAL = 20
    GRAPHEMES = 21


class Model(IntEnum):
    """What the symbols of a piece are before any are merged."""

    BYTES = 1
    CHARACTERS = 2


class ModelFlag(IntFlag):
    """How a model treats what is not in its vocabulary, and what is in it as a whole."""

    FUSE_UNKNOWN = 1
    BYTE_FALLBACK = 2


class Op(IntEnum):
    """One step of a normalizer or pre-tokenizer; each takes the pieces of the step before and cuts or changes them."""

    NFC = 1
    REPLACE = 2
    PREPEND = 3
    TRIM = 4
    SPLIT = 5


class Prepend(IntEnum):
    """Which pieces PREPEND changes."""

    ALL = 0
    UNLESS_THERE = 1
    UNLESS_THERE_AT_START = 2


class Trim(IntFlag):
    """The ends that TRIM takes blanks off."""

    LEFT = 1
    RIGHT = 2


class Behaviour(IntEnum):
    """What SPLIT does with what it finds."""

    ISOLATED = 0
    REMOVED = 1
    MERGED_WITH_PREVIOUS = 2
    MERGED_WITH_NEXT = 3
    CONTIGUOUS = 4


INVERTED = 0x100  # added to a Behaviour: what is found and what lies between change places


class DecoderOp(IntEnum):
    """One step from tokens to text."""

    BYTES = 1
    REPLACE = 2
    BYTE_FALLBACK = 3
    STRIP_START = 4
    METASPACE = 5


class CharClass(IntFlag):
    """What the characters of a class are to added tokens and to TRIM."""

    BLANK = 1
    WORD = 2


class TokenFlag(IntFlag):
    """What an id of the vocabulary is."""

    PRESENT = 1
    ADDED = 2
    SPECIAL = 4
    BYTE = 8


class AddedFlag(IntFlag):
    """How an added token is matched."""

    SPECIAL = 1
    NORMALIZED = 2
    LSTRIP = 4
    RSTRIP = 8
    SINGLE_WORD = 16


def word_hash(key: bytes) -> int:
    """FNV-1a over the bytes of a piece: 32 bits."""
    value = 0x811C9DC5
    for byte in key:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def pack_sections(sections: Sequence[tuple[Section, bytes]]) -> bytes:
    """The whole file: header, directory, then every section at the next multiple of 8."""
    position = _HEADER.size + _ENTRY.size * len(sections)
    directory, body = bytearray(), bytearray()
    for kind, payload in sections:
        padding = -position % ALIGNMENT
        body += bytes(padding) + payload
        directory += _ENTRY.pack(kind, position + padding, len(payload))
        position += padding + len(payload)
    return bytes(_HEADER.pack(MAGIC, VERSION, len(sections)) + directory + body)


def unpack_sections(data: bytes) -> Mapping[int, memoryview]:
    """Section kind -> its bytes. Raises BundleError if the file is no tokenizer.bin of this version or is cut short."""
    if len(data) < _HEADER.size or data[:8] != MAGIC:
        raise BundleError(
            "tokenizer.bin does not start with SATCHTOK: not a tokenizer of Satchel; build the bundle again"
        )
    _, version, count = _HEADER.unpack_from(data)
    if version != VERSION:
        raise BundleError(
            f"tokenizer.bin has format version {version}, this Satchel reads {VERSION}; use a matching one"
        )
    if len(data) < _HEADER.size + _ENTRY.size * count:
        raise BundleError("tokenizer.bin is cut short inside its directory; build the bundle again")
    sections = {}
    for index in range(count):
        kind, offset, length = _ENTRY.unpack_from(data, _HEADER.size + _ENTRY.size * index)
        if offset + length > len(data):
            raise BundleError(
                f"tokenizer.bin is cut short: section {kind} ends at {offset + length} of {len(data)} bytes"
            )
        sections[kind] = memoryview(data)[offset : offset + length]
    missing = [section.name for section in Section if section not in sections and section != Section.CANONICAL]
    if missing:
        raise BundleError(f"tokenizer.bin lacks the sections {', '.join(missing)}; build the bundle again")
    return sections


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-in of every byte in a byte-level vocabulary (GPT-2's table): character -> byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in alphabet.values())
    alphabet.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return alphabet


BYTE_OF_CHARACTER: Mapping[str, int] = _byte_alphabet()
CHARACTER_OF_BYTE: Mapping[int, str] = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
