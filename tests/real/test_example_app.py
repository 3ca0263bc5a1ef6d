"""The example app: built without Gradle, and driven on a screen with the real model below it.

The pictures in docs/images are what the second test leaves in its folder's `pictures`.
"""

import re
import zipfile
from pathlib import Path

from example_android import BuiltApp
from on_robolectric import ANDROID_15, run_screen_tests
from satchel.cache import Cache
from satchel.hashing import file_sha256
from satchel.tools import Tools


def test_the_apk_can_be_installed_and_its_program_mapped(example_app: BuiltApp) -> None:
    tools = Tools()
    said = tools.run([str(tools.aapt2), "dump", "badging", str(example_app.apk)])
    assert "package: name='dev.satchel.example' versionCode='1' versionName='0.1.0'" in said
    assert "sdkVersion:'26'" in said
    assert "targetSdkVersion:'35'" in said
    assert "launchable-activity: name='dev.satchel.example.ChatActivity'" in said
    assert "uses-permission" not in said
    manifest = tools.run([str(tools.aapt2), "dump", "xmltree", "--file", "AndroidManifest.xml", str(example_app.apk)])
    assert re.search("extractNativeLibs.*=false", manifest)
    with zipfile.ZipFile(example_app.apk) as apk:
        (program,) = [info for info in apk.infolist() if info.filename.endswith("/model.pte")]
        services = apk.read("META-INF/services/dev.satchel.TokenEngineFactory").decode()
    assert program.compress_type == zipfile.ZIP_STORED
    assert "dev.satchel.executorch.ExecuTorchEngineFactory" in services


def test_the_app_has_the_libraries_of_this_build(example_app: BuiltApp, default_build: Path) -> None:
    (published,) = (default_build / "android" / "maven").rglob("satchel-core-*[0-9].jar")
    (used,) = [jar for jar in example_app.class_path if jar.name == published.name]
    assert file_sha256(used) == file_sha256(published)


def test_the_app_answers_on_a_screen(example_app: BuiltApp, sdk_cache: Cache, tmp_path: Path) -> None:
    report = run_screen_tests(example_app, ANDROID_15, sdk_cache, tmp_path)
    assert 'tests="5" errors="0" skipped="0" failures="0"' in report
