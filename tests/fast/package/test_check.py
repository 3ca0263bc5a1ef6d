"""The checks of a finished library refuse what an app's build or a device would."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from satchel.errors import InternalError
from satchel.package.android.aar import android_manifest
from satchel.package.android.check import Budget, check_aar, check_jar
from satchel.package.archive import Entry, write_archive

ROOMY = Budget(1_000_000, "a test")
ASKING = android_manifest("dev.engine").replace(
    b"<uses-sdk", b'<uses-permission android:name="android.permission.INTERNET"/><uses-sdk'
)


def jar(path: Path, files: Mapping[str, bytes]) -> bytes:
    write_archive(path, [Entry(name, content) for name, content in files.items()])
    return path.read_bytes()


@pytest.fixture
def good(tmp_path: Path) -> dict[str, bytes]:
    """The files of an AAR that passes."""
    classes = {"dev/Engine.class": b"class", "META-INF/services/dev.Spi": b"dev.Engine\n"}
    return {
        "AndroidManifest.xml": android_manifest("dev.engine"),
        "R.txt": b"",
        "classes.jar": jar(tmp_path / "classes.jar", classes),
        "proguard.txt": b"-keep class dev.Engine { *; }",
        "META-INF/com/android/build/gradle/aar-metadata.properties": b"aarFormatVersion=1.0\n",
    }


def check(path: Path, files: Mapping[str, bytes], budget: Budget = ROOMY) -> None:
    jar(path, files)
    check_aar(path, budget)


def test_a_good_library_passes(tmp_path: Path, good: dict[str, bytes]) -> None:
    check(tmp_path / "good.aar", good)


@pytest.mark.parametrize(
    "missing",
    [
        "AndroidManifest.xml",
        "R.txt",
        "classes.jar",
        "proguard.txt",
        "META-INF/com/android/build/gradle/aar-metadata.properties",
    ],
)
def test_a_missing_entry(tmp_path: Path, good: dict[str, bytes], missing: str) -> None:
    del good[missing]
    with pytest.raises(InternalError, match=f"bad.aar can't be published: .*it has no {missing}"):
        check(tmp_path / "bad.aar", good)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("AndroidManifest.xml", android_manifest("dev.engine").replace(b'"26"', b'"21"'), "minSdk is 21"),
        ("AndroidManifest.xml", b"<manifest package='a.b'/>", "minSdk is None"),
        ("AndroidManifest.xml", android_manifest("x").replace(b' package="x"', b""), "has no namespace"),
        ("AndroidManifest.xml", ASKING, "it asks for android.permission.INTERNET"),
        ("proguard.txt", b"# nothing", "proguard.txt keeps nothing"),
        ("proguard.txt", b"-keep class dev.Other { *; }", "does not keep dev.Engine"),
    ],
)
def test_a_bad_entry(tmp_path: Path, good: dict[str, bytes], name: str, content: bytes, problem: str) -> None:
    with pytest.raises(InternalError, match=problem):
        check(tmp_path / "bad.aar", {**good, name: content})


def test_a_service_without_its_class(tmp_path: Path, good: dict[str, bytes]) -> None:
    good["classes.jar"] = jar(tmp_path / "services.jar", {"META-INF/services/dev.Spi": b"dev.Engine\n"})
    with pytest.raises(InternalError, match=r"names dev\.Engine, which is not in classes.jar"):
        check(tmp_path / "bad.aar", good)


def test_over_budget(tmp_path: Path, good: dict[str, bytes]) -> None:
    with pytest.raises(InternalError, match=r"bytes, more than 100 \(it must be small\)"):
        check(tmp_path / "bad.aar", good, Budget(100, "it must be small"))


def test_a_jar_over_budget(tmp_path: Path) -> None:
    jar(tmp_path / "core.jar", {"A.class": b"class"})
    check_jar(tmp_path / "core.jar", ROOMY)
    with pytest.raises(InternalError, match=r"core.jar can't be published: it has \d+ bytes, more than 10"):
        check_jar(tmp_path / "core.jar", Budget(10, "a test"))


def test_the_archive_is_the_same_bytes_whatever_the_files_are_like(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 10_000)
    entries = [Entry("z", b"1"), Entry("a", big), Entry("META-INF/MANIFEST.MF", b"m"), Entry("s", big, stored=True)]
    write_archive(tmp_path / "one.zip", entries)
    big.touch()
    big.chmod(0o600)
    write_archive(tmp_path / "two.zip", reversed(entries))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["META-INF/MANIFEST.MF", "a", "s", "z"]
        assert archive.read("s") == big.read_bytes()
        assert archive.testzip() is None


def test_a_name_given_twice(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="would hold a twice"):
        write_archive(tmp_path / "x.zip", [Entry("a", b""), Entry("a", b"")])
