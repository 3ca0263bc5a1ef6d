"""The QuantizedCheckpoint on disk: `weights.safetensors` and `quantized.json`, written and read one tensor at a time.

weights.safetensors, per tensor: `<name>:codes` (int4: two per byte, code + 8, the first one in the low nibble, U8
[out, in / 2]; int8: I8 [out, in]), `<name>:scale` (int4: BF16 [out, in / group]; int8: F32 [out]), `<name>:offset`
(F32 [out, in / group]), or `<name>:values` (F32, the tensor's shape). quantized.json has the plan, each tensor's
origin, its shape, and the SHA-256 of weights.safetensors; it is written last, so a folder that has it is complete.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from satchel.errors import CorruptModelError
from satchel.files import canonical_json, write_file
from satchel.hashing import file_sha256
from satchel.quantize.checkpoint import QuantizedTensor
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.source.checkpoint import TensorInfo
from satchel.source.safetensors_io import SafetensorsFile, SafetensorsWriter

_WEIGHTS = "weights.safetensors"
_RECORD = "quantized.json"
_SCHEMA_VERSION = 2


class StoredQuantizedCheckpoint:
    """A QuantizedCheckpoint over a folder. Made by `open_quantized` and `write_quantized`."""

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.sha256: str = record["sha256"]
        self.origin: Mapping[str, str] = {name: entry["origin"] for name, entry in record["tensors"].items()}
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(entry["shape"]) for name, entry in record["tensors"].items()
        }
        self.plan = QuantPlan.from_json(record["plan"])
        self._file = SafetensorsFile(folder / _WEIGHTS)

    def names(self) -> Iterator[str]:
        return iter(self.plan.tensors)

    def read(self, name: str) -> QuantizedTensor:
        name = self.plan.canonical(name)
        plan = self.plan[name]
        if plan.scheme == "float":
            return QuantizedTensor(plan, values=self._file.float32(f"{name}:values"))
        codes = self._file.read(f"{name}:codes")
        return QuantizedTensor(
            plan,
            codes=unpack_int4(codes) if plan.scheme == "int4" else codes,
            scale=self._file.float32(f"{name}:scale"),
            offset=self._file.float32(f"{name}:offset") if plan.offset else None,
        )


def open_quantized(folder: Path) -> StoredQuantizedCheckpoint:
    """Open a folder that `write_quantized` wrote. Raises CorruptModelError if it is incomplete or damaged."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if record["schema_version"] != _SCHEMA_VERSION:
            raise CorruptModelError(
                f"{folder} holds quantized weights of format {record['schema_version']}, this version reads "
                f"{_SCHEMA_VERSION}. Quantize the model again."
            )
        if file_sha256(folder / _WEIGHTS) != record["sha256"]:
            raise CorruptModelError(f"{folder / _WEIGHTS} is damaged. Delete {folder} and quantize the model again.")
        return StoredQuantizedCheckpoint(folder, record)
    except (OSError, ValueError, KeyError) as problem:
        raise CorruptModelError(f"{folder} holds no complete quantized weights ({problem}).") from problem


def write_quantized(
    folder: Path,
    plan: QuantPlan,
    infos: Mapping[str, TensorInfo],
    quantize_tensor: Callable[[str], tuple[QuantizedTensor, str]],
) -> StoredQuantizedCheckpoint:
    """Write every tensor of the plan: `quantize_tensor(name)` gives its codes and its origin."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RECORD).unlink(missing_ok=True)
    unfinished = folder / f".{_WEIGHTS}.part"
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, tensor_plan in plan.tensors.items():
        layout |= {f"{name}:{part}": entry for part, entry in _layout(tensor_plan, infos[name].shape).items()}
    entries: dict[str, Any] = {}
    try:
        with SafetensorsWriter(unfinished, layout) as writer:
            for name in plan.tensors:
                tensor, origin = quantize_tensor(name)
                for part, array in _arrays(tensor).items():
                    writer.write(f"{name}:{part}", array)
                entries[name] = {"shape": list(infos[name].shape), "origin": origin}
        unfinished.rename(folder / _WEIGHTS)
    finally:
        unfinished.unlink(missing_ok=True)
    record = {
        "schema_version": _SCHEMA_VERSION,
        "plan": plan.to_json(),
        "sha256": writer.sha256,
        "tensors": entries,
    }
    write_file(folder / _RECORD, canonical_json(record))
    return StoredQuantizedCheckpoint(folder, record)


def _layout(plan: TensorPlan, shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    if plan.scheme == "float":
        return {"values": ("F32", shape)}
    outputs, inputs = shape
    if plan.scheme == "int8":
        return {"codes": ("I8", shape), "scale": ("F32", (outputs,))}
    groups = (outputs, inputs // plan.group)
    offset = {"offset": ("F32", groups)} if plan.offset else {}
    return {"codes": ("U8", (outputs, inputs // 2)), "scale": ("BF16", groups), **offset}


def _arrays(tensor: QuantizedTensor) -> dict[str, NDArray[Any]]:
    """The parts of a tensor as they are stored, in the layout's order."""
    if tensor.values is not None:
        return {"values": tensor.values}
    assert tensor.codes is not None
    assert tensor.scale is not None
    if tensor.plan.scheme == "int8":
        return {"codes": tensor.codes, "scale": tensor.scale}
    offset = {} if tensor.offset is None else {"offset": tensor.offset}
    bits = tensor.scale.astype(ml_dtypes.bfloat16).view(np.uint16)
    return {"codes": pack_int4(tensor.codes), "scale": bits, **offset}


def pack_int4(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Codes -8..7 [out, in] -> bytes [out, in / 2]: code + 8, the first one in the low nibble."""
    unsigned: NDArray[np.uint8] = (codes + np.int8(8)).view(np.uint8)
    packed: NDArray[np.uint8] = unsigned[:, 0::2] | (unsigned[:, 1::2] << np.uint8(4))
    return packed


def unpack_int4(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The inverse of `pack_int4`."""
    codes = np.empty((packed.shape[0], packed.shape[1] * 2), dtype=np.int8)
    codes[:, 0::2] = packed & 15
    codes[:, 1::2] = packed >> 4
    codes -= 8
    return codes
