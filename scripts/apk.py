"""APK files: written so that a device can map programs and native libraries from them, and looked at again.

What is mapped is stored uncompressed and starts on a 16 KB page; what the system reads in place starts on 4 bytes. The
padding is the extra field that zipalign and apksigner know (0xd935: alignment, then zeros), so signing keeps it.
"""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

Content = bytes | Path | zipfile.Path

PAGE = 16 * 1024
_MAPPED = (".so", ".pte", ".tflite")
_READ_IN_PLACE = (".arsc",)
_WORD = 4

_EXTRA_ID = 0xD935
_EXTRA_HEADER = struct.Struct("<HHH")  # id, size of what follows, alignment
_LOCAL_HEADER = 30
_TIME = (1981, 1, 1, 1, 1, 2)  # the time that Android's own tools write


def write_apk(target: Path, files: Mapping[str, Content]) -> None:
    """Write an unsigned APK: name in the APK -> content, or the file that has it. Same contents, same bytes."""
    with zipfile.ZipFile(target, "w") as apk:
        for name in sorted(files):
            content = files[name]
            _add(apk, name, content if isinstance(content, bytes) else content.read_bytes())


def misaligned(apk: Path) -> list[str]:
    """The files of an APK that a device could not map or read in place, each with what is wrong."""
    wrong = []
    with zipfile.ZipFile(apk) as archive, apk.open("rb") as file:
        for info in archive.infolist():
            alignment = _alignment(info.filename)
            if alignment == 1:
                continue
            start = _data_start(file, info)
            if info.compress_type != zipfile.ZIP_STORED:
                wrong.append(f"{info.filename} is compressed")
            elif start % alignment:
                wrong.append(f"{info.filename} starts at {start}, which is no multiple of {alignment}")
    return wrong


def _add(apk: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.create_system = 3  # Unix, on every platform
    info.external_attr = 0o100644 << 16
    alignment = _alignment(name)
    if alignment == 1:
        info.compress_type = zipfile.ZIP_DEFLATED
    else:
        assert apk.fp is not None
        start = apk.fp.tell() + _LOCAL_HEADER + len(name.encode()) + _EXTRA_HEADER.size
        padding = -start % alignment
        info.extra = _EXTRA_HEADER.pack(_EXTRA_ID, 2 + padding, alignment) + bytes(padding)
    apk.writestr(info, content)


def _alignment(name: str) -> int:
    if name.endswith(_MAPPED):
        return PAGE
    return _WORD if name.endswith(_READ_IN_PLACE) else 1


def _data_start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the bytes of a file begin: the lengths in its local header count, the directory has its own."""
    file.seek(info.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    return info.header_offset + _LOCAL_HEADER + int(name_length) + int(extra_length)
