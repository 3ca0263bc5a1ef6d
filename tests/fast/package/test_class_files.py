"""The reader that the compiled SDK is looked at with sees what an app's compiler could not read."""

import struct
from pathlib import Path

import pytest

from class_files import class_info, too_new_for_an_app
from satchel.package.archive import Entry, write_archive


def class_bytes(kotlin: tuple[int, ...] | None = (2, 2, 0), major: int = 55) -> bytes:
    """A class file (JVMS 4.1) with a field-less, method-less class and, if asked, kotlin.Metadata's version."""
    texts = ["A", "java/lang/Object", "RuntimeVisibleAnnotations", "Lkotlin/Metadata;", "k", "mv"]
    pool = b"".join(b"\x01" + struct.pack(">H", len(text)) + text.encode() for text in texts)
    pool += b"\x07\x00\x01\x07\x00\x02"  # constants 7 and 8: the class and its super class
    pool += b"\x05" + bytes(8)  # constant 9, a long: takes two slots, so the next one is 11
    numbers = (1, *(kotlin or ()))
    pool += b"".join(b"\x03" + struct.pack(">i", number) for number in numbers)
    count = 11 + len(numbers)
    attributes = struct.pack(">H", 0)
    if kotlin is not None:
        values = b"".join(b"I" + struct.pack(">H", 12 + index) for index in range(len(kotlin)))
        metadata = struct.pack(">HH", 4, 2)  # kotlin.Metadata with two elements: k, mv
        metadata += struct.pack(">HcH", 5, b"I", 11) + struct.pack(">HcH", 6, b"[", len(kotlin)) + values
        body = struct.pack(">H", 1) + metadata
        attributes = struct.pack(">HHI", 1, 3, len(body)) + body
    header = struct.pack(">IHHH", 0xCAFEBABE, 0, major, count)
    return header + pool + struct.pack(">HHHHHH", 0x21, 7, 8, 0, 0, 0) + attributes


def problems(folder: Path, name: str, content: bytes) -> list[str]:
    write_archive(folder / "core.jar", [Entry(name, content)])
    return list(too_new_for_an_app((folder / "core.jar").read_bytes()))


def test_a_class_file_says_its_versions() -> None:
    info = class_info(class_bytes((2, 2, 0)))
    assert (info.major, info.kotlin) == (55, (2, 2, 0))
    assert class_info(class_bytes(None, 52)).kotlin is None


@pytest.mark.parametrize("content", [b"CAFEBABE", class_bytes()[:-20]])
def test_what_is_no_class_file_is_not_read(content: bytes) -> None:
    with pytest.raises(ValueError, match="class file"):
        class_info(content)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("A.class", class_bytes((2, 4, 0)), "A.class has Kotlin metadata 2.4.0, which Kotlin 2.2 can't read"),
        ("A.class", class_bytes(major=61), "A.class is class file version 61, newer than 55 (Java 11)"),
        (
            "META-INF/core.kotlin_module",
            struct.pack(">4i", 3, 2, 4, 0),
            "META-INF/core.kotlin_module has Kotlin metadata 2.4.0, which Kotlin 2.2 can't read",
        ),
    ],
)
def test_what_is_too_new_for_an_app(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    assert problems(tmp_path, name, content) == [problem]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("A.class", class_bytes((2, 3, 20))),
        ("A.class", class_bytes(None)),
        ("META-INF/core.kotlin_module", struct.pack(">4i", 3, 2, 3, 0)),
        ("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0"),
    ],
)
def test_what_an_app_can_read(tmp_path: Path, name: str, content: bytes) -> None:
    assert problems(tmp_path, name, content) == []
