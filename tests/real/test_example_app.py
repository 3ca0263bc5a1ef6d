"""The example app: built without Gradle, and driven on a screen with the real model below it.

The pictures in docs/images are what the second test leaves in its folder's `pictures`.
"""

import re
import zipfile
from pathlib import Path

import pytest

import example_android
from example_android import BuiltApp
from satchel.cache import Cache
from satchel.package.sdk import compile_sdk
from satchel.runtimes.jvm import build_host_engine
from satchel.tools import Tools

SCREEN = Path(__file__).parent / "example_app"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, default_build: Path) -> BuiltApp:
    return example_android.build(Tools(), default_build / "android" / "maven", tmp_path_factory.mktemp("app"))


def test_the_apk_can_be_installed_and_its_program_mapped(app: BuiltApp) -> None:
    tools = Tools()
    said = tools.run([str(tools.aapt2), "dump", "badging", str(app.apk)])
    assert "package: name='dev.satchel.example' versionCode='1' versionName='0.1.0'" in said
    assert "sdkVersion:'26'" in said
    assert "targetSdkVersion:'35'" in said
    assert "launchable-activity: name='dev.satchel.example.ChatActivity'" in said
    assert "uses-permission" not in said
    with zipfile.ZipFile(app.apk) as apk:
        (program,) = [info for info in apk.infolist() if info.filename.endswith("/model.pte")]
        services = apk.read("META-INF/services/dev.satchel.TokenEngineFactory").decode()
    assert program.compress_type == zipfile.ZIP_STORED
    assert "dev.satchel.executorch.ExecuTorchEngineFactory" in services


def test_the_app_answers_on_a_screen(app: BuiltApp, sdk_cache: Cache, tmp_path: Path) -> None:
    tools = Tools()
    host = build_host_engine(sdk_cache, tools)
    (stand_in,) = (compile_sdk(sdk_cache, tools).folder / "host" / "lib").glob("satchel-host-standin-*.jar")
    (tmp_path / "config" / "com" / "android" / "tools").mkdir(parents=True)
    (tmp_path / "config" / "com" / "android" / "tools" / "test_config.properties").write_text(
        f"android_resource_apk={app.apk}\n"
        f"android_merged_manifest={app.apk.parent}/resources/AndroidManifest.xml\n"
        f"android_custom_package=dev.satchel.example\n"
    )
    compiled = [app.classes, *app.class_path]
    run = [*compiled, stand_in, tmp_path / "config", tmp_path / "maven" / "monitor" / "classes.jar"]
    tools.run(
        [
            *(str(tools.maven), "-q", "-B", "-f", str(SCREEN / "pom.xml"), "-Dkotlin.compiler.daemon=false"),
            f"-Dwork={tmp_path}",
            f"-Dclass.path={':'.join(map(str, compiled))}",
            f"-Dmaven.test.additionalClasspath={','.join(map(str, run))}",
            f"-Dsatchel.host.dir={host.native}",
            "test",
        ],
        env=tools.java_env(),
    )
    (report,) = (tmp_path / "maven" / "surefire-reports").glob("TEST-*.xml")
    assert re.search(r'tests="4" errors="0" skipped="0" failures="0"', report.read_text(encoding="utf-8"))
