"""Hold the classes that the Kotlin tests ran on against those of the published libraries: the same bytes.

`make test-kotlin` runs it after the tests. The libraries were compiled by another run of Maven in another folder.
"""

import sys
import tempfile
from pathlib import Path

from satchel.cache import Cache
from satchel.hashing import file_sha256
from satchel.package.android.sdk import collect, compile_sdk
from satchel.package.render import templates_root
from satchel.tools import Tools


def main() -> int:
    sdk = compile_sdk(Cache.default(), Tools())
    different = []
    with tempfile.TemporaryDirectory() as folder:
        for library in sdk.index.libraries:
            tested = Path(folder) / library.artifact
            collect(templates_root() / library.module, tested, library)
            if digests(tested) != digests(sdk.folder / library.artifact):
                different.append(library.artifact)
    if different:
        print(f"not what the Kotlin tests ran on, byte for byte: {', '.join(different)}", file=sys.stderr)
    else:
        print(f"{len(sdk.index.libraries)} libraries are what the Kotlin tests ran on, byte for byte")
    return 1 if different else 0


def digests(folder: Path) -> dict[str, str]:
    return {file.name: file_sha256(file) for file in folder.iterdir()}


if __name__ == "__main__":
    sys.exit(main())
