"""What a compiled class says about itself, its class file version and its Kotlin metadata version, and whether an
app's compiler can read it.

Read from The Java Virtual Machine Specification, chapter 4 (The class File Format).
"""

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

# A Kotlin compiler reads metadata up to one minor version ahead of its own: an app on Kotlin 2.2 reads 2.3.
NEWEST_KOTLIN_METADATA = (2, 3)
NEWEST_CLASS_FILE = 55  # Java 11: inline functions can't be inlined into an app that targets something older

_MAGIC = 0xCAFEBABE
_UTF8, _INTEGER = 1, 3
# Bytes after the tag, for every constant but Utf8 (JVMS table 4.4-A): size -> tags.
_TAGS_BY_SIZE = {2: (7, 8, 16, 19, 20), 3: (15,), 4: (3, 4, 9, 10, 11, 12, 17, 18), 8: (5, 6)}
_CONSTANT_SIZE = {tag: size for size, tags in _TAGS_BY_SIZE.items() for tag in tags}
_TWO_SLOTS = {5, 6}  # long and double


@dataclass(frozen=True)
class ClassInfo:
    """`major`: class file version (55 = Java 11). `kotlin`: metadata version, e.g. (2, 2, 0), None if not Kotlin."""

    major: int
    kotlin: tuple[int, ...] | None


def too_new_for_an_app(jar: bytes) -> Iterator[str]:
    """Every class and Kotlin module of a jar that an app on Kotlin 2.2 and Java 11 could not be compiled against."""
    with zipfile.ZipFile(io.BytesIO(jar)) as archive:
        for name in archive.namelist():
            kotlin = None
            if name.endswith(".class"):
                info = class_info(archive.read(name))
                kotlin = info.kotlin
                if info.major > NEWEST_CLASS_FILE:
                    yield f"{name} is class file version {info.major}, newer than {NEWEST_CLASS_FILE} (Java 11)"
            elif name.endswith(".kotlin_module"):
                kotlin = module_version(archive.read(name))
            if kotlin is not None and kotlin[:2] > NEWEST_KOTLIN_METADATA:
                yield f"{name} has Kotlin metadata {'.'.join(map(str, kotlin))}, which Kotlin 2.2 can't read"


def class_info(data: bytes) -> ClassInfo:
    """Read one .class file."""
    reader = _Reader(data)
    if reader.u4() != _MAGIC:
        raise ValueError("Not a class file: it does not begin with CAFEBABE.")
    reader.u2()  # minor version
    major = reader.u2()
    constants = _constants(reader)
    reader.skip(6)  # access flags, this class, super class
    reader.skip(2 * reader.u2())  # interfaces
    for _ in range(2):  # fields, then methods
        for _ in range(reader.u2()):
            reader.skip(6)
            for _ in range(reader.u2()):
                reader.skip(2)
                reader.skip(reader.u4())
    kotlin = None
    for _ in range(reader.u2()):
        name, size = constants.get(reader.u2()), reader.u4()
        if name == "RuntimeVisibleAnnotations":
            kotlin = _kotlin_version(_Reader(reader.take(size)), constants)
        else:
            reader.skip(size)
    return ClassInfo(major, kotlin)


def module_version(data: bytes) -> tuple[int, ...]:
    """The metadata version of a META-INF/*.kotlin_module file: a count, then that many numbers."""
    (count,) = struct.unpack_from(">i", data)
    return struct.unpack_from(f">{count}i", data, 4)


class _Reader:
    """Big-endian numbers from a buffer."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise ValueError("A class file ends too early.")
        self._at += size
        return taken

    def skip(self, size: int) -> None:
        self.take(size)

    def u1(self) -> int:
        return self.take(1)[0]

    def u2(self) -> int:
        return int.from_bytes(self.take(2))

    def u4(self) -> int:
        return int.from_bytes(self.take(4))


def _constants(reader: _Reader) -> dict[int, str | int]:
    """index -> the text of a Utf8 constant or the value of an Integer constant; the others don't matter here."""
    constants: dict[int, str | int] = {}
    count, index = reader.u2(), 1
    while index < count:
        tag = reader.u1()
        if tag == _UTF8:
            constants[index] = reader.take(reader.u2()).decode(errors="replace")
        elif tag == _INTEGER:
            constants[index] = reader.u4()
        else:
            reader.skip(_CONSTANT_SIZE[tag])
        index += 2 if tag in _TWO_SLOTS else 1
    return constants


def _kotlin_version(reader: _Reader, constants: dict[int, str | int]) -> tuple[int, ...] | None:
    """`mv` of the kotlin.Metadata annotation, if it is among these annotations."""
    for _ in range(reader.u2()):
        is_kotlin = constants.get(reader.u2()) == "Lkotlin/Metadata;"
        for _ in range(reader.u2()):
            name = constants.get(reader.u2())
            value = _element(reader, constants)
            if is_kotlin and name == "mv" and isinstance(value, list):
                return tuple(value)
    return None


def _element(reader: _Reader, constants: dict[int, str | int]) -> int | str | list[int] | None:
    """One annotation value: a number or text, a list of numbers, None for what does not matter here."""
    tag = chr(reader.u1())
    if tag == "[":
        values = [_element(reader, constants) for _ in range(reader.u2())]
        return [value for value in values if isinstance(value, int)]
    if tag == "@":
        reader.skip(2)
        for _ in range(reader.u2()):
            reader.skip(2)
            _element(reader, constants)
        return None
    if tag == "e":
        reader.skip(4)
        return None
    return constants.get(reader.u2())
