"""The files of an Android library archive (AAR), as the Android Gradle plugin expects them."""

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from satchel.package.archive import Entry, jar_manifest, write_archive

MIN_SDK = 26  # the ExecuTorch runtime's native code needs API 26, whatever its own manifest says

METADATA = "META-INF/com/android/build/gradle/aar-metadata.properties"
_ANDROID = "http://schemas.android.com/apk/res/android"

# What an app's build must have: nothing of ours is newer than API 26 unless guarded, and no desugaring is needed.
_METADATA_TEXT = f"""aarFormatVersion=1.0
aarMetadataVersion=1.0
minCompileSdk={MIN_SDK}
minCompileSdkExtension=0
minAndroidGradlePluginVersion=1.0.0
coreLibraryDesugaringEnabled=false
"""


def write_aar(path: Path, *, manifest: bytes, classes_jar: Path, rules: bytes, assets: Iterable[Entry] = ()) -> None:
    """Write an AAR. `manifest`: AndroidManifest.xml; `rules`: what R8 must keep in the app; `assets`: named from the
    assets folder (`satchel/...`)."""
    write_archive(
        path,
        [
            Entry("AndroidManifest.xml", manifest),
            Entry("R.txt", b""),  # no resources
            Entry("classes.jar", classes_jar),
            Entry("proguard.txt", rules),
            Entry(METADATA, _METADATA_TEXT.encode()),
            *(Entry(f"assets/{asset.name}", asset.content, asset.stored) for asset in assets),
        ],
    )


def write_empty_classes(path: Path) -> None:
    """classes.jar of a library without code: some tools refuse a jar with no entry at all, so it has a manifest."""
    write_archive(path, [jar_manifest()])


def android_manifest(namespace: str) -> bytes:
    """AndroidManifest.xml of a library that has nothing but a namespace and a minimum SDK."""
    ElementTree.register_namespace("android", _ANDROID)
    root = ElementTree.Element("manifest", {"package": namespace})
    ElementTree.SubElement(root, "uses-sdk", {f"{{{_ANDROID}}}minSdkVersion": str(MIN_SDK)})
    return xml_bytes(root)


def rename_manifest(source: bytes, namespace: str) -> bytes:
    """The AndroidManifest.xml `source` with another namespace and our minimum SDK."""
    ElementTree.register_namespace("android", _ANDROID)
    root = ElementTree.fromstring(source)
    root.set("package", namespace)
    uses_sdk = root.find("uses-sdk")
    if uses_sdk is None:
        uses_sdk = ElementTree.Element("uses-sdk")
        root.insert(0, uses_sdk)
    uses_sdk.set(f"{{{_ANDROID}}}minSdkVersion", str(MIN_SDK))
    return xml_bytes(root)


def min_sdk(manifest: bytes) -> int | None:
    """minSdkVersion of an AndroidManifest.xml, or None if it states none."""
    uses_sdk = ElementTree.fromstring(manifest).find("uses-sdk")
    value = None if uses_sdk is None else uses_sdk.get(f"{{{_ANDROID}}}minSdkVersion")
    return int(value) if value and value.isdigit() else None


def namespace_of(manifest: bytes) -> str | None:
    """The namespace (`package`) of an AndroidManifest.xml."""
    return ElementTree.fromstring(manifest).get("package")


def permissions(manifest: bytes) -> list[str]:
    """What an AndroidManifest.xml asks the user or the system for."""
    elements = ElementTree.fromstring(manifest).iter()
    return [element.get(f"{{{_ANDROID}}}name", "") for element in elements if element.tag.startswith("uses-permission")]


def xml_bytes(root: ElementTree.Element) -> bytes:
    """An XML document, indented, the same bytes for the same tree."""
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()
