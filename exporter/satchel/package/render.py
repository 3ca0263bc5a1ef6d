"""The SDK templates: ordinary source that is copied as it stands; only files named *.jinja are rendered."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from satchel.errors import InternalError
from satchel.files import files_below

# Built by Maven, CMake or an IDE in a checkout: no source.
_BUILT = {"target", "build", ".gradle", ".idea", ".kotlin"}


def templates_root() -> Path:
    """The folder of templates: in a wheel beside the package's modules, in a checkout at its root."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "_templates", package.parents[1] / "sdk_templates"):
        if (candidate / "libraries.toml").is_file():
            return candidate
    raise InternalError(f"The SDK templates are neither in {package / '_templates'} nor in a checkout beside it.")


def template_files(root: Path, *parts: str) -> Iterator[Path]:
    """The files under `root` (only its files and folders `parts`, if any), as paths relative to it, sorted.

    Left out: what a build made there, and test sources, which are not compiled for a library.
    """
    found: list[Path] = []
    for start in [root / part for part in parts] or [root]:
        found += [start] if start.is_file() else files_below(start)
    for relative in sorted(path.relative_to(root) for path in found):
        if not _BUILT & set(relative.parts) and "src/test/" not in relative.as_posix():
            yield relative


def tree_hash(root: Path, *parts: str) -> str:
    """sha256 over names and bytes of the template files: the cache key of everything built from them."""
    digest = hashlib.sha256()
    for relative in template_files(root, *parts):
        content = (root / relative).read_bytes()
        digest.update(f"{relative.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def render_tree(root: Path, destination: Path, values: Mapping[str, str], *parts: str) -> None:
    """Copy the template files to `destination`; a *.jinja file is rendered with `values` and loses that suffix.

    A value that a template needs and `values` lacks is an error, never an empty string.
    """
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    for relative in template_files(root, *parts):
        target = destination / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".jinja":
            template = environment.from_string((root / relative).read_text(encoding="utf-8"))
            target.with_suffix("").write_text(template.render(values), encoding="utf-8")
        else:
            shutil.copyfile(root / relative, target)
