"""The Core ML program (.mlpackage): where its weights lie, how they are packed, filled in and predicted.

An .mlpackage is a folder of three files: a manifest, the program (`mlpackage_program`), and a blob file with its large
constants (`mlpackage_blobs`), which is where slots lie. Numbers that a float32 weight became in a float16 program are
rounded; codes never are.
"""

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import InternalError
from satchel.formats import carried, packing
from satchel.formats.carried import part_bytes
from satchel.formats.mlpackage_blobs import BlobFile, BlobRegion
from satchel.formats.mlpackage_difference import first_difference as first_difference
from satchel.formats.mlpackage_program import Operation, read_program
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.skeleton.table import Skeleton, Slot

PROGRAM_FILE = "model.mlpackage"
MANIFEST = "Manifest.json"
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"

# What is added to attention's score of a key that a query must not see, by an app and, beyond a sliding window, by the
# program itself: the least float16, of which softmax makes exactly 0.
HIDDEN = -65504.0
ROTARY = "rotary"  # in the name of a constant that is no weight

Files = Mapping[str, bytes]  # path inside the package -> contents

# The program multiplies block offsets with the mean of 32 inputs instead of their sum, which float16 may not hold.
OFFSET_SCALE = 32


def float16_scale(scale: NDArray[np.float32]) -> NDArray[np.float16]:
    """Scales as the file holds them."""
    return np.frombuffer(packing.PACKINGS["float16"].pack(scale), np.float16).reshape(scale.shape)


def manifest() -> bytes:
    """Manifest.json with fixed identifiers, so that equal programs are equal packages."""
    entries = {
        "5A7C4E10-0000-4000-8000-000000000001": ("model.mlmodel", "CoreML Model Specification"),
        "5A7C4E10-0000-4000-8000-000000000002": ("weights", "CoreML Model Weights"),
    }
    items = {
        key: {"author": "com.apple.CoreML", "description": text, "name": name, "path": f"com.apple.CoreML/{name}"}
        for key, (name, text) in entries.items()
    }
    value = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": next(iter(entries))}
    return (json.dumps(value, indent=4) + "\n").encode()


def weights_file(program: Path) -> Path:
    """The file that slots lie in: the blob file."""
    return program / WEIGHTS


def parts(tensor: QuantizedTensor) -> Iterator[tuple[str, tuple[str, ...], NDArray[Any]]]:
    """(part, possible packings, array) of everything the file holds of this tensor."""
    for part, packings, array in carried.parts(tensor, int4="int4_signed", group_scale="float16"):
        yield part, _IN_FLOAT16.get(part, packings), array


# What a float32 part became in a float16 program. Scales of int4 groups are float16 in any case.
_IN_FLOAT16 = {
    "values": ("float16_values", "float16_plus_one"),
    "scale": ("float16",),
    "offset_scale": ("float16_times_32",),
}


def predict_bytes(
    plan: QuantPlan, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], context_length: int
) -> int:
    """Size of the package before anything is built, from the plan alone.

    shapes: of every tensor of the plan. A tied table is stored once. Beside the weights there are tables of cosines
    and sines over the context, and the program: measured on 2 and 30 layers, about 36 KB per layer and 17 KB.
    """
    weights = sum(_part_bytes(plan[name], shape) for name, shape in shapes.items())
    dim = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    rotary = 2 * 2 * dim * context_length * _rotary_tables(config)
    return weights + rotary + 36_000 * int(config["num_hidden_layers"]) + 17_000


def _part_bytes(plan: TensorPlan, shape: tuple[int, ...]) -> int:
    """Bytes of all parts of a tensor: what carried.part_bytes says, but with two bytes for every float."""
    stored = part_bytes(plan, shape)
    if plan.scheme == "float":
        return stored // 2
    return stored - 2 * shape[0] if plan.scheme == "int8" or plan.offset else stored


def _rotary_tables(config: Mapping[str, Any]) -> int:
    """Pairs of tables: one for each kind of layer if kinds have frequencies of their own."""
    per_kind = isinstance(next(iter((config.get("rope_parameters") or {}).values()), None), Mapping)
    return len(set(config["layer_types"])) if per_kind or "rope_local_base_freq" in config else 1


# --- slots --------------------------------------------------------------------------------------------------------


def find_slots(
    files: Files, weights: QuantizedCheckpoint, parameters: Iterable[str], parts: packing.Parts = parts
) -> list[Slot]:
    """The table of slots of a program lowered from `weights`, found by content: every part must occur exactly once.

    Raises InternalError if a part is missing, is stored more than once, is declared with another type than the plan's,
    or if a large constant has no slot: something that was to be quantized and is not.
    """
    (function,) = read_program(files[MODEL]).functions.values()
    used = {value.offset: operation for operation, _, value in function.blobs()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weight.bin"
        path.write_bytes(files[WEIGHTS])
        blobs = BlobFile(path)
        regions = {offset: blobs.region(offset) for offset in used}
    data = memoryview(files[WEIGHTS])
    by_digest: dict[str, list[BlobRegion]] = {}
    for region in regions.values():
        digest = hashlib.sha256(data[region.start : region.start + region.bytes]).hexdigest()
        by_digest.setdefault(digest, []).append(region)
    slots = [
        _find(by_digest, parameter, part, packings, array)
        for parameter in parameters
        for part, packings, array in parts(weights.read(parameter))
    ]
    zeros = {region.start for region in regions.values() if not any(data[region.start : region.start + region.bytes])}
    _refuse_what_has_no_slot(used, regions, {slot.offset for slot in slots} | zeros)
    starts = [slot.offset for slot in slots]
    if len(set(starts)) != len(starts):
        raise InternalError("two parts share their bytes")
    return slots


def _find(
    regions: Mapping[str, list[BlobRegion]], parameter: str, part: str, packings: tuple[str, ...], array: NDArray[Any]
) -> Slot:
    for name in packings:
        found = regions.get(hashlib.sha256(packing.PACKINGS[name].pack(array)).hexdigest(), [])
        if len(found) > 1:
            raise InternalError(f"{part} of {parameter} is stored {len(found)} times")
        if found:
            if found[0].dtype != packing.PACKINGS[name].dtype:
                raise InternalError(f"{parameter}: the program declares its {part} as {found[0].dtype}")
            return Slot(parameter, part, name, array.shape, found[0].start, found[0].bytes)
    raise InternalError(f"{part} of {parameter} is not in the lowered program")


def _refuse_what_has_no_slot(
    used: Mapping[int, Operation], regions: Mapping[int, BlobRegion], explained: Collection[int]
) -> None:
    """What belongs to no weight is all zeros (a bias that coremltools adds), a rotary embedding's table, or small."""
    for offset, region in regions.items():
        name = used[offset].outputs[0].name
        if region.start not in explained and region.bytes > _LARGEST_WITHOUT_SLOT and ROTARY not in name:
            raise InternalError(f"{name}: {region.bytes} bytes of {region.dtype} in the program belong to no weight")


def fill(skeleton: Skeleton, weights: QuantizedCheckpoint, path: Path, parts: packing.Parts = parts) -> None:
    """Writes the skeleton's package with these weights to the folder `path`. Peak memory: about two tensors.

    The files equal those of a real lowering of the same weights (satchel.validate.complete), unless two of its tensors
    have the same bytes: a converter stores those once. Raises BadWeightsError if a scale or a weight is
    beyond float16.
    """
    skeleton.copy_beside(path)
    (path / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    skeleton.unpack(path / WEIGHTS)
    with (path / WEIGHTS).open("r+b") as file:
        for _ in packing.write_slots(file, skeleton.slots, weights, parts):
            pass


def read_back(
    path: Path, slots: Sequence[Slot], weights: QuantizedCheckpoint, parts: packing.Parts = parts
) -> dict[str, bool]:
    """tensor -> True if all that the package holds of it equals the checkpoint's, bit for bit, or what the packing
    makes of it; see packing.read_back."""
    return packing.read_back(path / WEIGHTS, slots, weights, parts, weights.plan.tensors)


_LARGEST_WITHOUT_SLOT = 1 << 16
