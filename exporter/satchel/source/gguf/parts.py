"""A model in several GGUF files, as llama.cpp's gguf-split writes them: NAME-00001-of-00003.gguf and so on.

Only the first part has metadata besides split.no, split.count and split.tensors.count; each has its own tensors. Any
part stands for all of them, which lie beside it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satchel.errors import CorruptModelError, ModelNotFoundError
from satchel.hashing import file_sha256
from satchel.source.checks import model_id_of, slug
from satchel.source.gguf.header import GgufHeader, GgufTensor, read_header

_NAME = re.compile(r"(?P<model>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)", re.IGNORECASE)


@dataclass(frozen=True)
class GgufFiles:
    """The files of one model in order, mostly one, and what they say together."""

    paths: Sequence[Path]
    header: GgufHeader

    @property
    def model_id(self) -> str:
        named = _NAME.fullmatch(self.paths[0].name) if len(self.paths) > 1 else None
        return slug(named["model"]) if named else model_id_of(self.paths[0])

    def sha256(self) -> str:
        """Of the one file, or of the parts' hashes in order."""
        hashes = [file_sha256(path) for path in self.paths]
        return (
            hashes[0]
            if len(hashes) == 1
            else hashlib.sha256("".join(f"{one}\n" for one in hashes).encode()).hexdigest()
        )


def read_files(path: Path) -> GgufFiles:
    """All files of the model that `path` is, or is a part of.

    Raises ModelNotFoundError if a part is not beside it, CorruptModelError if the parts do not belong together, or
    whatever `read_header` raises.
    """
    header = read_header(path)
    count = _split_count(header)
    if count == 1:
        return GgufFiles([path], header)
    paths = list(_all_parts(path, count))
    headers = [header if part == path else read_header(part) for part in paths]
    tensors: dict[str, GgufTensor] = {}
    for number, (part, one) in enumerate(zip(paths, headers, strict=True)):
        if (_split_count(one), one.fields.get("split.no")) != (count, number):
            raise CorruptModelError(
                f"{part.name} says that it is part {_shown_number(one)} of {_split_count(one)}, unlike its name. "
                "Get all parts again, from one place."
            )
        if twice := sorted(tensors.keys() & one.tensors.keys()):
            raise CorruptModelError(f"{part.name} holds {twice[0]}, as a part before it does. Get all parts again.")
        tensors |= one.tensors
    for part, one in zip(paths, headers, strict=True):
        if (announced := one.fields.get("split.tensors.count", len(tensors))) != len(tensors):
            raise CorruptModelError(
                f"{part.name} announces {announced!r:.40} tensors in all parts, which hold {len(tensors)}. Get all "
                "parts again, from one place."
            )
    return GgufFiles(paths, GgufHeader(_without_split(headers[0].fields), tensors))


def is_split(path: Path) -> bool:
    """Whether the GGUF file is one of several parts."""
    return _split_count(read_header(path)) > 1


def _split_count(header: GgufHeader) -> int:
    count = header.fields.get("split.count", 1)
    if type(count) is not int or not 0 <= count <= 99999:
        raise CorruptModelError(f"the GGUF file gives {count!r:.40} as split.count. Get the file again.")
    return max(count, 1)


def _all_parts(path: Path, count: int) -> Iterator[Path]:
    named = _NAME.fullmatch(path.name)
    if named is None or int(named["count"]) != count:
        raise ModelNotFoundError(
            f"{path.name} is one of {count} parts of a model, and its name does not say which. Give the parts the "
            f"names that gguf-split gave them, NAME-00001-of-{count:05}.gguf and so on, in one folder."
        )
    for number in range(1, count + 1):
        part = path.with_name(f"{named['model']}-{number:05}-of-{count:05}{named['suffix']}")
        if not part.is_file():
            raise ModelNotFoundError(
                f"{path.name} is part {int(named['number'])} of {count}, and {part.name} is not beside it. Get all "
                "parts into one folder."
            )
        yield part


def _shown_number(header: GgufHeader) -> Any:
    number = header.fields.get("split.no")
    return number + 1 if type(number) is int else number


def _without_split(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not name.startswith("split.")}
