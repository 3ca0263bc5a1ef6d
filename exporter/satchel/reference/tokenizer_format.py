"""The layout of `tokenizer.bin`: numbers and packing shared by the compiler and the reader.

docs/tokenizer-format.md is the specification. Everything is little endian, every section starts at a multiple of 8,
so a device maps the arrays as they lie in the file.
"""

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag

from satchel.errors import BundleError

MAGIC = b"SATCHTOK"
VERSION = 1
ALIGNMENT = 8

_HEADER = struct.Struct("<8sII")  # magic, version, number of sections
_ENTRY = struct.Struct("<III")  # kind, offset from the start of the file, length in bytes

CODE_POINTS = 0x110000
NO_TOKEN = 0xFFFFFFFF


class Section(IntEnum):
    """What a section holds; readers skip kinds that they don't know."""

    INFO = 1
    MODEL = 2
    OPS = 3
    CLASSES = 4
    TOKEN_FLAGS = 5
    TOKEN_OFFSETS = 6
    TOKEN_BYTES = 7
    BYTE_IDS = 8
    MERGE_ROWS = 9
    MERGES = 10
    ADDED_TOKENS = 11
    ADDED_BYTES = 12


class Model(IntEnum):
    """How a piece of text becomes ids."""

    BYTE_BPE = 1


class Decoder(IntEnum):
    """How the bytes of tokens become text."""

    BYTES = 1


class Op(IntEnum):
    """One step of the pre-tokenizer; each takes the pieces of the step before and cuts or changes them."""

    PREFIX_SPACE = 1
    DIGITS = 2
    SPLIT_GPT2 = 3


class CharClass(IntFlag):
    """What a code point is to the pre-tokenizer's operations."""

    LETTER = 1
    NUMBER = 2
    SPACE = 4
    NUMERIC = 8
    STRIP = 16


class TokenFlag(IntFlag):
    """What an id of the vocabulary is."""

    PRESENT = 1
    ADDED = 2
    SPECIAL = 4


class AddedFlag(IntFlag):
    """How an added token is matched."""

    SPECIAL = 1
    NORMALIZED = 2
    LSTRIP = 4
    RSTRIP = 8


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
    missing = [section.name for section in Section if section not in sections]
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
