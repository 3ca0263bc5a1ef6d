"""What `make example-android` does by itself: zip alignment, Android's resource table, R, reading the Gradle files."""

import struct
import zipfile
from pathlib import Path

import pytest

import example_android
from apk import PAGE, misaligned, write_apk
from resource_table import rewritten

PROGRAM = bytes(range(256)) * 100


def test_what_is_mapped_starts_on_a_page_and_the_rest_is_compressed(tmp_path: Path) -> None:
    apk, program = tmp_path / "a.apk", tmp_path / "program"
    program.write_bytes(PROGRAM)
    files = {"classes.dex": PROGRAM, "assets/model.pte": program, "lib/x86_64/liba.so": PROGRAM, "resources.arsc": b"x"}
    write_apk(apk, files)
    assert misaligned(apk) == []
    with zipfile.ZipFile(apk) as archive:
        assert archive.read("assets/model.pte") == PROGRAM
        assert archive.testzip() is None
        stored = {info.filename for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED}
    assert stored == files.keys() - {"classes.dex"}
    raw = apk.read_bytes()
    assert raw.find(PROGRAM[:4096]) % PAGE == 0


def test_an_apk_of_the_same_contents_is_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1.apk", tmp_path / "2.apk"
    write_apk(first, {"b": b"1", "a.so": b"2"})
    write_apk(second, {"a.so": b"2", "b": b"1"})
    assert first.read_bytes() == second.read_bytes()


def test_a_compressed_or_shifted_library_is_found(tmp_path: Path) -> None:
    apk = tmp_path / "a.apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("lib/x86_64/liba.so", PROGRAM)
        archive.writestr("assets/model.pte", PROGRAM, zipfile.ZIP_DEFLATED)
    assert misaligned(apk) == [
        f"lib/x86_64/liba.so starts at 48, which is no multiple of {PAGE}",
        "assets/model.pte is compressed",
    ]


# --- Android's resource table: a table with one package with one type chunk, whose header has 20 bytes here ---

FULL = struct.pack("<HHI", 8, 2, 7) + struct.pack("<HBBI", 8, 0, 0x1C, 0xFF112233)  # flags 2 (public), key 7, a colour
COMPACT = struct.pack("<HHI", 7, 0x1C << 8 | 8 | 2, 0xFF112233)  # the same entry
BAG = struct.pack("<HHIII", 16, 1, 9, 0, 1) + struct.pack("<IHBBI", 0x01010000, 8, 0, 0x10, 5)  # a style of one item


def type_chunk(flags: int, count: int, offsets: bytes, entries: bytes) -> bytes:
    start = 20 + len(offsets)
    return struct.pack("<HHIBBHII", 0x201, 20, start + len(entries), 1, flags, 0, count, start) + offsets + entries


def table(type_chunk: bytes) -> bytes:
    package = struct.pack("<HHI", 0x200, 8, 8 + 16 + len(type_chunk)) + struct.pack("<HHIQ", 0x202, 8, 16, 5)
    return struct.pack("<HHII", 0x002, 12, 12 + len(package) + len(type_chunk), 1) + package + type_chunk


EXPECTED = table(type_chunk(0, 3, struct.pack("<3I", 0, 0xFFFFFFFF, 16), FULL + BAG))


@pytest.mark.parametrize(
    ("flags", "count", "offsets", "entries"),
    [
        (0, 3, struct.pack("<3I", 0, 0xFFFFFFFF, 16), FULL + BAG),  # as it was before Android 14
        (2, 3, struct.pack("<4H", 0, 0xFFFF, 2, 0), COMPACT + BAG),  # 16-bit offsets in units of 4 bytes, and padding
        (1, 2, struct.pack("<4H", 0, 0, 2, 2), COMPACT + BAG),  # sparse: (index, offset in units of 4 bytes)
    ],
)
def test_every_form_of_a_type_becomes_the_one_that_old_tools_read(
    flags: int, count: int, offsets: bytes, entries: bytes
) -> None:
    assert rewritten(table(type_chunk(flags, count, offsets, entries))) == EXPECTED


# --- the app ---


def test_the_gradle_files_say_what_the_app_is() -> None:
    app = example_android.read_app()
    assert (app.namespace, app.min_sdk, app.target_sdk) == ("dev.satchel.example", "26", "35")
    assert app.model == ("dev.satchel", "smollm2-135m-instruct-int4", "0.1.0")
    templates = (example_android.ROOT / "sdk_templates" / "pom.xml").read_text(encoding="utf-8")
    assert f"<coroutines.version>{app.coroutines}<" in templates


def test_r_has_every_symbol_under_its_kind() -> None:
    app = example_android.read_app()
    source = example_android.r_class(
        app, "int id send 0x7f030007\nint string send 0x7f060007\nint id stop 0x7f030008\n"
    )
    assert source == (
        "package dev.satchel.example\n\nobject R {\n"
        "    object id {\n        const val send: Int = 0x7f030007\n        const val stop: Int = 0x7f030008\n    }\n"
        "    object string {\n        const val send: Int = 0x7f060007\n    }\n}\n"
    )
