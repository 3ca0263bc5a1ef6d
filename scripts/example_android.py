"""The example app as an installable APK, without Gradle and without an Android SDK.

`python scripts/example_android.py` turns example_apps/android and the Maven repository of `make android` into
build/example-android/satchel-example.apk: Maven fetches the libraries and compiles, aapt2 links the resources, D8 makes
the bytecode, and the APK is aligned, signed with a debug key that is made on the spot, and verified. What Gradle would
read from the app's build files is read from those very files.
"""

import re
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from apk import Content, misaligned, write_apk
from resource_table import write_framework
from satchel.errors import BundleError, SatchelError, ToolFailedError
from satchel.files import assembled_folder
from satchel.package.android.aar import xml_bytes
from satchel.tools import Tools

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "example_apps" / "android"
REPOSITORY = ROOT / "build" / "android" / "maven"
WORK = ROOT / "build" / "example-android"
APK = "satchel-example.apk"

_RUNTIME = "executorch-android"
_ANDROID = "{http://schemas.android.com/apk/res/android}"
_KEY = "debug.p12"
_KEY_PASSWORD = "android"  # the one that every debug key has


@dataclass(frozen=True)
class App:
    """What the app's Gradle files say about it. `model`: group, artifact and version of the model library."""

    namespace: str
    min_sdk: str
    target_sdk: str
    version_code: str
    version_name: str
    model: tuple[str, str, str]
    coroutines: str


@dataclass(frozen=True)
class BuiltApp:
    """A signed APK. `has_runtime`: it carries the device's runtime; without, it installs and says what is missing."""

    apk: Path
    classes: Path  # folder of the app's own classes
    class_path: tuple[Path, ...]  # jars of its libraries
    has_runtime: bool

    def moved(self, folder: Path, to: Path) -> "BuiltApp":
        """The same after what lay in `folder` has come to lie in `to`."""

        def place(path: Path) -> Path:
            return to / path.relative_to(folder)

        libraries = tuple(place(library) for library in self.class_path)
        return BuiltApp(place(self.apk), place(self.classes), libraries, self.has_runtime)


def read_app(project: Path = PROJECT) -> App:
    """The app as its build.gradle.kts and libs.versions.toml describe it."""
    gradle = (project / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    catalog = tomllib.loads((project / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))

    def setting(name: str) -> str:
        found = re.search(rf'^\s*{name} = "?([^"\s]+)"?', gradle, re.MULTILINE)
        if found is None:
            raise ValueError(f"{project}/app/build.gradle.kts does not set {name}")
        return found[1]

    group, artifact = catalog["libraries"]["satchel-model"]["module"].split(":")
    return App(
        namespace=setting("namespace"),
        min_sdk=setting("minSdk"),
        target_sdk=setting("targetSdk"),
        version_code=setting("versionCode"),
        version_name=setting("versionName"),
        model=(group, artifact, catalog["versions"]["satchel-model"]),
        coroutines=catalog["versions"]["coroutines"],
    )


def build(tools: Tools, repository: Path = REPOSITORY, work: Path = WORK, project: Path = PROJECT) -> BuiltApp:
    """Build the app of `project` with the model library in `repository`; `work` is replaced when the APK is verified.

    Raises OutputError if `work` is not Satchel's to replace, BundleError if the repository lacks the model library,
    ToolMissingError, ToolFailedError.
    """
    _ = tools.maven, tools.java, tools.aapt2, tools.apksigner, tools.keytool  # named before anything slow
    app = read_app(project)
    group, artifact, version = app.model
    if not (repository / group.replace(".", "/") / artifact / version).is_dir():
        raise BundleError(f"{repository} has no {':'.join(app.model)}, which the example app uses. Run: make android")
    with assembled_folder(work) as folder:
        if (work / _KEY).exists():  # so that this build installs over the last one
            shutil.copyfile(work / _KEY, folder / _KEY)
        built = _build(tools, app, repository, folder, project)
    return built.moved(folder, work)


def _build(tools: Tools, app: App, repository: Path, work: Path, project: Path) -> BuiltApp:
    maven = Maven(tools, app, repository, work, project)
    has_runtime = maven.fetch()
    libraries = [*sorted((work / "libraries").glob("*.jar")), *_unpack_classes(work)]
    resources = _link_resources(tools, app, work, project)
    classes = maven.compile([work / "tools" / "android-all.jar", *libraries])
    _dex(tools, app, work, [*sorted(classes.rglob("*.class")), *libraries])
    unsigned = work / "unsigned.apk"
    write_apk(unsigned, _contents(work, resources, libraries))
    apk = _sign(tools, app, work, unsigned)
    _verify(tools, app, apk)
    return BuiltApp(apk, classes, tuple(libraries), has_runtime)


class Maven:
    """The Maven runs of one build."""

    def __init__(self, tools: Tools, app: App, repository: Path, work: Path, project: Path) -> None:
        self._tools, self._work = tools, work
        group, artifact, version = app.model
        self._group = group
        self._command = [
            *(str(tools.maven), "-q", "-B", "-f", str(project / "pom.xml")),
            "-Dkotlin.compiler.daemon=false",  # it would outlive this build with 1.4 GB
            f"-Dwork={work}",
            f"-Dsatchel.repository={repository.resolve().as_uri()}",
            f"-Dmodel.group={group}",
            f"-Dmodel.artifact={artifact}",
            f"-Dmodel.version={version}",
            f"-Dcoroutines.version={app.coroutines}",
        ]

    def fetch(self) -> bool:
        """Fetch libraries and tools; whether the device's runtime is among them.

        Maven keeps what it once took of a version, and our repository is written anew by every build: forget ours.
        """
        self._run("dependency:purge-local-repository", f"-DmanualInclude={self._group}")
        try:
            self._run("initialize")
        except ToolFailedError as error:
            if _RUNTIME not in str(error):
                raise
            self._command.append("-Dwithout.runtime=true")
            self._run("initialize")
            return False
        return True

    def compile(self, class_path: list[Path]) -> Path:
        """Compile the app; the folder of its classes."""
        self._run("kotlin:compile@app", f"-Dclass.path={':'.join(map(str, class_path))}")
        return self._work / "maven" / "classes"

    def _run(self, *words: str) -> None:
        self._tools.run([*self._command, *words], env=self._tools.java_env())


# --- libraries --------------------------------------------------------------------------------------------------


def _aars(work: Path) -> list[Path]:
    return sorted((work / "libraries").glob("*.aar"))


def _unpack_classes(work: Path) -> Iterator[Path]:
    """The classes.jar of every AAR. A library with a manifest or resources to merge is refused: this build does not
    merge them as Gradle does, and the example needs none."""
    for aar in _aars(work):
        with zipfile.ZipFile(aar) as archive:
            manifest = ElementTree.fromstring(archive.read("AndroidManifest.xml"))
            declared = [element.tag for element in manifest.iter() if element.tag not in ("manifest", "uses-sdk")]
            if declared or any(name.startswith("res/") for name in archive.namelist()):
                raise ValueError(f"{aar.name} brings {', '.join(declared) or 'resources'}: build the app with Gradle")
            yield Path(archive.extract("classes.jar", work / "classes" / aar.stem))


# --- resources --------------------------------------------------------------------------------------------------


def _link_resources(tools: Tools, app: App, work: Path, project: Path) -> Path:
    """The APK without code: manifest and resources. R.kt for the compiler is written beside it."""
    folder = work / "resources"
    folder.mkdir(parents=True)
    framework, compiled, linked = folder / "framework.apk", folder / "compiled.zip", folder / "resources.apk"
    write_framework(work / "tools" / "android-all.jar", framework)
    main = project / "app" / "src" / "main"
    (folder / "AndroidManifest.xml").write_bytes(_as_gradle_would(main / "AndroidManifest.xml", app))
    tools.run([str(tools.aapt2), "compile", "--dir", str(main / "res"), "-o", str(compiled)])
    tools.run(
        [
            *(str(tools.aapt2), "link", str(compiled), "-I", str(framework), "-o", str(linked), "--debug-mode"),
            *("--manifest", str(folder / "AndroidManifest.xml"), "--output-text-symbols", str(folder / "R.txt")),
            *("--min-sdk-version", app.min_sdk, "--target-sdk-version", app.target_sdk),
            *("--version-code", app.version_code, "--version-name", app.version_name),
        ]
    )
    (folder / "kotlin").mkdir()
    (folder / "kotlin" / "R.kt").write_text(r_class(app, (folder / "R.txt").read_text("utf-8")), encoding="utf-8")
    framework.unlink()
    return linked


def _as_gradle_would(manifest: Path, app: App) -> bytes:
    """The app's manifest with what Gradle would add: the package, and that libraries are mapped where they lie."""
    ElementTree.register_namespace("android", _ANDROID.strip("{}"))
    root = ElementTree.parse(manifest).getroot()
    root.set("package", app.namespace)
    (application,) = root.iter("application")
    application.set(f"{_ANDROID}extractNativeLibs", "false")
    return xml_bytes(root)


def r_class(app: App, symbols: str) -> str:
    """Kotlin source of R from aapt2's list of symbols (`int id prompt 0x7f030004`)."""
    kinds: dict[str, list[str]] = {}
    for line in symbols.splitlines():
        _, kind, name, value = line.split(" ", 3)
        kinds.setdefault(kind, []).append(f"        const val {name}: Int = {value}")
    objects = [f"    object {kind} {{\n" + "\n".join(values) + "\n    }" for kind, values in kinds.items()]
    return f"package {app.namespace}\n\nobject R {{\n" + "\n".join(objects) + "\n}\n"


# --- code and archive -------------------------------------------------------------------------------------------


def _dex(tools: Tools, app: App, work: Path, code: list[Path]) -> None:
    """Android bytecode of classes and jars, in `work`/dex."""
    (work / "dex").mkdir()
    brief = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # the second compiler brings a run of seconds nothing
    command = [str(tools.java.executable), "-Xmx2g", *brief, "-cp", str(work / "tools" / "r8.jar")]
    command += ["com.android.tools.r8.D8", "--min-api", app.min_sdk, "--lib", str(work / "tools" / "android-all.jar")]
    arguments = work / "dex-inputs.txt"  # a command line may be too short for them
    arguments.write_text("".join(f"{path}\n" for path in code), encoding="utf-8")
    tools.run([*command, "--output", str(work / "dex"), f"@{arguments}"])


def _contents(work: Path, resources: Path, libraries: list[Path]) -> dict[str, Content]:
    """Everything that goes into the APK."""
    files: dict[str, Content] = {path.name: path for path in (work / "dex").glob("*.dex")}
    files |= _members(resources, "", "")
    for aar in _aars(work):
        files |= _members(aar, "assets/", "assets/") | _members(aar, "jni/", "lib/")
    return files | _services(libraries)


def _members(archive: Path, folder: str, into: str) -> dict[str, Content]:
    """The files of `archive` below `folder`, named `into` and the rest of their path."""
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.startswith(folder) and not name.endswith("/")]
    return {into + name.removeprefix(folder): zipfile.Path(archive, name) for name in names}


def _services(libraries: list[Path]) -> dict[str, Content]:
    """What ServiceLoader looks up, such as the engine of a backend: META-INF/services of all jars, joined by name."""
    services: dict[str, bytes] = {}
    for library in libraries:
        with zipfile.ZipFile(library) as jar:
            for name in jar.namelist():
                if name.startswith("META-INF/services/") and not name.endswith("/"):
                    services[name] = services.get(name, b"") + jar.read(name).rstrip() + b"\n"
    return dict(services)


def _sign(tools: Tools, app: App, work: Path, unsigned: Path) -> Path:
    """Sign with this checkout's debug key, made once."""
    key = work / _KEY
    if not key.exists():
        made = work / "debug-new.p12"
        made.unlink(missing_ok=True)
        tools.run(
            [
                *(str(tools.keytool), "-genkeypair", "-keystore", str(made), "-storetype", "PKCS12"),
                *("-storepass", _KEY_PASSWORD, "-alias", "debug", "-keyalg", "RSA", "-keysize", "2048"),
                *("-validity", "10000", "-dname", "CN=Satchel example debug"),
            ]
        )
        made.rename(key)
    signed, apk = work / "signed.apk", work / APK
    tools.run(
        [
            *(str(tools.apksigner), "sign", "--ks", str(key), "--ks-pass", f"pass:{_KEY_PASSWORD}"),
            *("--min-sdk-version", app.min_sdk, "--v1-signing-enabled", "false", "--v2-signing-enabled", "true"),
            *("--v3-signing-enabled", "true", "--v4-signing-enabled", "false", "--out", str(signed), str(unsigned)),
        ],
        env=tools.java_env(),
    )
    unsigned.unlink()
    return signed.rename(apk)


def _verify(tools: Tools, app: App, apk: Path) -> None:
    """Raise if the APK would not install, or could not be mapped."""
    command = [str(tools.apksigner), "verify", "--verbose", "--min-sdk-version", app.min_sdk, str(apk)]
    said = tools.run(command, env=tools.java_env())
    for scheme in ("v2", "v3"):
        if not re.search(rf"Verified using {scheme} scheme .*: true", said):
            raise ToolFailedError(f"{apk} has no {scheme} signature:\n{said}")
    if wrong := misaligned(apk):
        raise ToolFailedError(f"{apk} can't be mapped: {'; '.join(wrong)}")


def main() -> int:
    try:
        built = build(Tools())
    except SatchelError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(
        f"{built.apk}: {built.apk.stat().st_size / 1e6:.1f} MB, signed (v2, v3), programs and libraries on 16 KB pages"
    )
    if not built.has_runtime:
        print(
            f"It has no {_RUNTIME}: Maven could not fetch the device's runtime here. The app installs and says so; "
            "build it where Maven reaches that library, or with Gradle."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
