"""Runs Kotlin tests on Robolectric's Android, with the engine over the host's libraries instead of the device's.

The example app on a screen, with the APK's own resources and assets; and the SDK over a model library's assets.
"""

from dataclasses import dataclass
from pathlib import Path

from example_android import BuiltApp
from satchel.cache import Cache
from satchel.package.android.sdk import compile_sdk
from satchel.runtimes.jvm import HostEngine, build_host_engine
from satchel.tools import Tools

_REAL = Path(__file__).parent / "real"
_PROJECT = _REAL / "robolectric" / "pom.xml"


@dataclass(frozen=True)
class Android:
    """A version of Android: its API level, and the version of Robolectric's build of it."""

    level: int
    build: str


ANDROID_8 = Android(26, "8.0.0_r4-robolectric-r1")
ANDROID_15 = Android(35, "15-robolectric-13954326")


def run_screen_tests(app: BuiltApp, android: Android, cache: Cache, work: Path) -> str:
    """Raises ToolFailedError with what failed, else returns the report (XML); `work`/pictures has the pictures."""
    tools = Tools()
    host = build_host_engine(cache, tools)
    (stand_in,) = (compile_sdk(cache, tools).folder / "host" / "lib").glob("satchel-host-standin-*.jar")
    _write_configuration(work / "config", app, android)
    compiled = [app.classes, *app.class_path]
    return _run(_REAL / "example_app", compiled, [*compiled, stand_in, work / "config"], host, android, work)


def run_model_library_tests(library: Path, backend: str, cache: Cache, work: Path) -> str:
    """The same over the assets of a model library's AAR, for an app that has the SDK and `library` and nothing else."""
    tools = Tools()
    sdk, host = compile_sdk(cache, tools), build_host_engine(cache, tools, backend)
    (android,) = (sdk.file(part, "classes.jar") for part in sdk.index.libraries if part.namespace == "android")
    class_path = [android, *host.class_path[1:]]
    return _run(_REAL / "model_library", class_path, class_path, host, ANDROID_15, work, f"-Dmodel.library={library}")


def _run(
    tests: Path, compiled: list[Path], run: list[Path], host: HostEngine, android: Android, work: Path, *words: str
) -> str:
    tools, on_run = Tools(), [*run, work / "maven" / "monitor" / "classes.jar"]
    tools.run(
        [
            *(str(tools.maven), "-q", "-B", "-f", str(_PROJECT), "-Dkotlin.compiler.daemon=false"),
            f"-Dtests={tests}",
            f"-Dwork={work}",
            f"-Dandroid.build={android.build}",
            f"-Dclass.path={':'.join(map(str, compiled))}",
            f"-Dmaven.test.additionalClasspath={','.join(map(str, on_run))}",
            f"-Dsatchel.host.dir={host.native}",
            *words,
            "test",
        ],
        env=tools.java_env(),
    )
    (report,) = (work / "maven" / "surefire-reports").glob("TEST-*.xml")
    return report.read_text(encoding="utf-8")


def _write_configuration(folder: Path, app: BuiltApp, android: Android) -> None:
    """What Robolectric reads from the class path: which Android, and whose resources."""
    tools = folder / "com" / "android" / "tools"
    tools.mkdir(parents=True)
    (folder / "robolectric.properties").write_text(f"sdk={android.level}\n", encoding="utf-8")
    (tools / "test_config.properties").write_text(
        f"android_resource_apk={app.apk}\n"
        f"android_merged_manifest={app.apk.parent}/resources/AndroidManifest.xml\n"
        f"android_custom_package=dev.satchel.example\n",
        encoding="utf-8",
    )
