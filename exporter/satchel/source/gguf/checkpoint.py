"""A GGUF file as a Checkpoint: Hugging Face names and layout, one tensor at a time from its place in the file.

For some architectures llama.cpp stores the rows of q and k so that the two halves of each head interleave (its rotary
embedding turns neighbouring rows); Hugging Face's layout keeps the halves apart. The permutation is undone here, for
values and codes. Norms that Hugging Face stores as a distance from one are stored whole; here they become distances.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from satchel.errors import BadWeightsError, UnsupportedModelError
from satchel.source.checkpoint import SourceCodes, SourceInfo, TensorInfo, TokenizerAssets
from satchel.source.checks import require_finite
from satchel.source.gguf.architecture import TOP_MODULES, Architecture
from satchel.source.gguf.blocks import GROUP, UNPACK
from satchel.source.gguf.config import architecture_of, layer_count, make_config, token_ids
from satchel.source.gguf.header import GgufHeader, GgufTensor
from satchel.source.gguf.metadata import Metadata
from satchel.source.gguf.parts import read_files
from satchel.source.gguf.rope import ROPE_FACTORS
from satchel.source.gguf.tokenizer import tokenizer_assets
from satchel.source.support import checked_config

_Number = TypeVar("_Number", bound=np.generic)
_MOST_FACTORS = 1 << 16  # bytes
_CHUNK_VALUES = 1 << 20  # tensors are dequantized in runs of rows of about this many values


class GgufCheckpoint:
    """A Checkpoint over a GGUF file. Made by `open_gguf`."""

    def __init__(self, path: Path, header: GgufHeader, model_id: str, describe: Callable[[], SourceInfo]) -> None:
        self.model_id = model_id
        self.place: Path | None = path
        self._describe = describe
        self._fields = header.fields
        architecture = architecture_of(path.name, header)
        metadata = Metadata(path.name, architecture.name, header.fields)
        layers = layer_count(metadata, header)
        self._architecture = architecture
        self._path = path
        factors = header.tensors.get(ROPE_FACTORS) if architecture.rope_factors else None
        if factors is not None and factors.size > _MOST_FACTORS:
            raise BadWeightsError(f"{ROPE_FACTORS} has the shape {list(factors.shape)}. Get the file again.")
        beside = {ROPE_FACTORS} if factors is not None else set[str]()
        self._stored = _hugging_face_names(header.tensors, architecture, layers, beside)
        self.config: Mapping[str, Any] = checked_config(
            path.name,
            make_config(
                architecture, metadata, layers, self._stored, None if factors is None else self._values(factors)
            ),
        )
        self.generation_config: Mapping[str, Any] = token_ids(metadata)
        self.tensors: Mapping[str, TensorInfo] = {
            name: TensorInfo(name, stored.shape, stored.type.name) for name, stored in self._stored.items()
        }

    @cached_property
    def source(self) -> SourceInfo:
        """Made when it is first asked for: what can be refused is refused before the file is hashed."""
        return self._describe()

    @cached_property
    def tokenizer(self) -> TokenizerAssets:
        """The tokenizer of the file's metadata. Raises TokenizerError if there is none or it can't be represented."""
        return tokenizer_assets(self._fields)

    def read(self, name: str) -> NDArray[np.float32]:
        values = self._values(self._tensor(name), name)
        if self._architecture.norm_offset and name.endswith("norm.weight"):
            values -= np.float32(self._architecture.norm_offset)
        return self._unpermute(name, values)

    def codes(self, name: str) -> SourceCodes | None:
        stored = self._tensor(name)
        unpack = UNPACK.get(stored.type)
        if unpack is None or len(stored.shape) != 2:
            return None
        outputs, inputs = stored.shape
        codes = np.empty(stored.shape, dtype=np.uint8)
        scale = np.empty((outputs, inputs // GROUP), dtype=np.float32)
        offset = np.empty_like(scale)
        for part, raw in self._row_chunks(stored):
            blocks = raw.reshape(len(raw), -1, GGML_QUANT_SIZES[stored.type][1])
            codes[part], scale[part], offset[part] = unpack(blocks)
            require_finite(f"{name} (a block scale)", scale[part])
            require_finite(f"{name} (a block minimum)", offset[part])
        return SourceCodes(
            codes=self._unpermute(name, codes),
            scale=self._unpermute(name, scale),
            offset=self._unpermute(name, offset),
            group=GROUP,
        )

    def _tensor(self, name: str) -> GgufTensor:
        try:
            return self._stored[name]
        except KeyError:
            raise BadWeightsError(f"{self._path.name} has no tensor {name}.") from None

    def _values(self, stored: GgufTensor, name: str | None = None) -> NDArray[np.float32]:
        """As the file has them; name: what an error calls the tensor, if not by its own name."""
        values = np.empty(stored.shape, dtype=np.float32)
        rows = values.reshape(-1, stored.shape[-1])
        for part, raw in self._row_chunks(stored):
            rows[part] = dequantize(raw, stored.type)
            require_finite(name or stored.name, rows[part])
        return values

    def _row_chunks(self, stored: GgufTensor) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Runs of whole rows (along the last axis) and their bytes, uint8 [rows, bytes per row]."""
        values_per_row = stored.shape[-1]
        block, block_bytes = GGML_QUANT_SIZES[stored.type]
        row_bytes = values_per_row // block * block_bytes
        rows = stored.size // row_bytes
        step = max(1, _CHUNK_VALUES // values_per_row)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            raw = np.fromfile(stored.file, np.uint8, count * row_bytes, offset=stored.start + first * row_bytes)
            yield slice(first, first + count), raw.reshape(count, row_bytes)

    def _unpermute(self, name: str, array: NDArray[_Number]) -> NDArray[_Number]:
        heads = {
            "self_attn.q_proj": self.config["num_attention_heads"],
            "self_attn.k_proj": self.config["num_key_value_heads"],
        }.get(".".join(name.split(".")[-3:-1]))
        if heads is None or not self._architecture.permuted:
            return array
        by_pair = array.reshape(heads, -1, 2, *array.shape[1:])
        return np.ascontiguousarray(by_pair.swapaxes(1, 2)).reshape(array.shape)


def open_gguf(
    path: Path,
    *,
    model_id: str | None = None,
    reference: str | None = None,
    revision: str | None = None,
    license_id: str | None = None,
) -> GgufCheckpoint:
    """Open a GGUF file, or all parts of a model by one of them.

    `model_id`, `reference`, `revision` and `license_id` are known better by whoever fetched it.
    Raises CorruptModelError (truncated or damaged), ModelNotFoundError (a part is missing), UnsupportedModelError
    (architecture, feature or tensor type).
    """
    files = read_files(path)
    header, first = files.header, files.paths[0]
    _require_known_types(first.name, header)
    stated = header.fields.get("general.license")

    def describe() -> SourceInfo:
        return SourceInfo(
            kind="gguf",
            reference=reference or first.name,
            revision=revision,
            sha256=files.sha256(),
            license=license_id or (stated if isinstance(stated, str) else None),
        )

    return GgufCheckpoint(first, header, model_id or files.model_id, describe)


def _hugging_face_names(
    tensors: Mapping[str, GgufTensor], architecture: Architecture, layers: int, beside: set[str]
) -> dict[str, GgufTensor]:
    """Hugging Face name -> stored tensor. beside: tensors that are no weights.

    A tensor that has no place in the architecture is refused by name.
    """
    places = dict(TOP_MODULES)
    for i in range(layers):
        places |= {
            f"model.layers.{i}.{ours}": f"blk.{i}.{theirs}" for ours, theirs in architecture.layer_modules.items()
        }
    found: dict[str, GgufTensor] = {}
    for module, place in places.items():
        for part in ("weight", "bias"):
            stored = tensors.get(f"{place}.{part}")
            if stored is not None:
                found[f"{module}.{part}"] = stored
    strangers = sorted(tensors.keys() - {stored.name for stored in found.values()} - beside)
    if strangers:
        raise UnsupportedModelError(
            f"the GGUF file holds {strangers[0]}, which is no part of the {architecture.name} architecture that it "
            "names, so it can't be converted exactly. Use the model's Hugging Face directory instead."
        )
    return found


def _require_known_types(file_name: str, header: GgufHeader) -> None:
    for tensor in header.tensors.values():
        if not _can_dequantize(tensor.type):
            raise UnsupportedModelError(
                f"{tensor.name} in {file_name} has the GGUF type {tensor.type.name}, which can't be read. "
                "Use a file in another type, such as Q4_1, Q8_0 or F16."
            )


@cache
def _can_dequantize(kind: GGMLQuantizationType) -> bool:
    """Whether gguf has a dequantizer for the type: tried on one block of zeros."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8), kind)
    except NotImplementedError:
        return False
    return True
