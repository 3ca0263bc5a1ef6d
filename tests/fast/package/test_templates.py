"""The SDK's own templates: what libraries.toml says is what the modules compile against."""

import re
from xml.etree import ElementTree

import satchel
from satchel.package.android.sdk import read_index
from satchel.package.render import templates_root

POM = {"m": "http://maven.apache.org/POM/4.0.0"}


def test_the_index_names_modules_that_exist() -> None:
    root = templates_root()
    index = read_index(root)
    for library in index.libraries:
        module = root / library.module
        assert ElementTree.parse(module / "pom.xml").findtext("m:artifactId", namespaces=POM) == library.artifact
        if library.packaging == "aar":
            assert (module / "src/main/AndroidManifest.xml").is_file()
            assert (module / "consumer-rules.pro").is_file()
            assert library.namespace
    assert set(index.native) == set(index.engines)
    for native in index.native.values():
        assert (root / native / "CMakeLists.txt").is_file()
    assert (root / index.host_module / "pom.xml").is_file()
    assert set(index.engines.values()) <= {library.artifact for library in index.libraries}


def test_published_dependencies_have_the_versions_that_were_compiled_against() -> None:
    root = templates_root()
    pom = ElementTree.parse(root / "pom.xml").getroot()
    properties = {element.tag.rpartition("}")[2]: element.text or "" for element in pom.find("m:properties", POM) or ()}
    compiled = {}
    for dependency in pom.iterfind("m:dependencyManagement/m:dependencies/m:dependency", POM):
        group, artifact, version = (
            dependency.findtext(f"m:{tag}", "", POM) for tag in ("groupId", "artifactId", "version")
        )
        compiled[f"{group}:{artifact}"] = properties[version.strip("${}")]
    published = [name for library in read_index(root).libraries for name in library.dependencies if ":" in name]
    runtimes = ("org.pytorch:", "com.google.ai.edge.litert:")  # compiled against the stand-ins
    ours = [name for name in published if not name.startswith(runtimes)]
    assert ours
    for name in ours:
        library, _, version = name.rpartition(":")
        assert compiled[library] == version


def test_engines_name_the_runtime_that_their_library_depends_on() -> None:
    """A bundle's `requires.runtime` is compared with it on the device."""
    root = templates_root()
    index = read_index(root)
    for artifact in index.engines.values():
        (library,) = [library for library in index.libraries if library.artifact == artifact]
        sources = "".join(path.read_text() for path in (root / library.module).rglob("src/main/**/*.kt"))
        (runtime,) = re.findall(r'runtimeVersion: String get\(\) = "(.*)"', sources)
        assert f":{runtime}@aar" in library.dependencies[-1]


def test_the_sdk_knows_its_own_version() -> None:
    """A bundle's `requires.sdk` is compared with it on the device."""
    sources = "".join(path.read_text() for path in (templates_root() / "android" / "core").rglob("src/main/**/*.kt"))
    assert re.findall(r'SDK_VERSION = "(.*)"', sources) == [satchel.__version__]
