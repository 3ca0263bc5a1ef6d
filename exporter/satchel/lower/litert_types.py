"""Gives the weights of an exported float32 .tflite their real types, and finds where each lies.

The export computes with float32 weights `scale * code`; XNNPACK's kernels are chosen by the declared types alone. So
each weight's tensor becomes INT4 with blockwise scales or INT8 with row scales, in every signature, and its buffer
holds the codes. Buffers are recognised by content: placeholder weights are all distinct.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from satchel.errors import InternalError
from satchel.formats import tflite
from satchel.formats.packing import PACKINGS
from satchel.lower.quantized import float_weight
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor
from satchel.skeleton import Slot

_ALIGNMENT = 16


@dataclass(frozen=True)
class _Found:
    """One buffer of the file: the tensor and part it holds, and how it is packed."""

    name: str
    part: str
    packing: str


def declare_types(program: bytes, weights: QuantizedCheckpoint, names: list[str]) -> tuple[bytearray, list[Slot]]:
    """The program with real types and these weights' codes, and the table of slots.

    names: every tensor that must be found. Raises InternalError if one is missing.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(program), 0))
    found = _identify(model, weights, names)
    scales: dict[int, int] = {}
    for graph in model.subgraphs:
        for tensor in list(graph.tensors):
            held = found.get(tensor.buffer)
            if held is not None and held.part == "codes":
                _declare(model, graph, tensor, held, weights.read(held.name), scales, found)
    _drop_names(model)
    packed = _pack(model)
    return packed, list(_slots(packed, found, weights))


def _identify(model: Any, weights: QuantizedCheckpoint, names: list[str]) -> dict[int, _Found]:
    """buffer index -> what it holds, by the content of the float32 export."""
    contents: dict[bytes, _Found] = {}
    for name in names:
        tensor = weights.read(name)
        if tensor.values is not None:
            for packing in ("float32", "float32_plus_one"):
                contents[_digest(PACKINGS[packing].pack(tensor.values))] = _Found(name, "values", packing)
            continue
        kind = "int4_signed" if tensor.plan.scheme == "int4" else "int8"
        contents[_digest(float_weight(tensor).numpy().tobytes())] = _Found(name, "codes", kind)
        if tensor.offset is not None:
            contents[_digest(tensor.offset.tobytes())] = _Found(name, "offset", "float32")
    found = {}
    for index, buffer in enumerate(model.buffers):
        held = None if buffer.data is None else contents.get(_digest(bytes(buffer.data)))
        if held is not None:
            found[index] = held
    missing = sorted({held.name for held in contents.values()} - {held.name for held in found.values()})
    if missing:
        raise InternalError(f"not in the exported .tflite: {', '.join(missing[:5])}")
    return found


def _declare(
    model: Any,
    graph: Any,
    tensor: Any,
    held: _Found,
    weight: QuantizedTensor,
    scales: dict[int, int],
    found: dict[int, _Found],
) -> None:
    """Sets type and quantization of one tensor of one signature; the shared buffers are written at the first."""
    assert weight.codes is not None
    assert weight.scale is not None
    quantization = schema.QuantizationParametersT()
    quantization.quantizedDimension = 0
    model.buffers[tensor.buffer].data = np.frombuffer(PACKINGS[held.packing].pack(weight.codes), np.uint8)
    if held.packing == "int8":
        tensor.type = schema.TensorType.INT8
        quantization.scale = weight.scale
        quantization.zeroPoint = np.zeros(len(weight.scale), np.int64)
    else:
        if tensor.buffer not in scales:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(PACKINGS["float16"].pack(weight.scale), np.uint8)
            model.buffers.append(buffer)
            scales[tensor.buffer] = len(model.buffers) - 1
            found[scales[tensor.buffer]] = _Found(held.name, "scale", "float16")
        blocks = schema.TensorT()
        blocks.shape = np.array(weight.scale.shape, np.int32)
        blocks.type = schema.TensorType.FLOAT16
        blocks.buffer = scales[tensor.buffer]
        blocks.hasRank = tensor.hasRank
        graph.tensors.append(blocks)
        details = schema.BlockwiseQuantizationT()
        details.scales = len(graph.tensors) - 1
        details.zeroPoints = -1
        details.blockSize = weight.plan.group
        tensor.type = schema.TensorType.INT4
        quantization.details = details
        quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    tensor.quantization = quantization


def _drop_names(model: Any) -> None:
    """Names of intermediate tensors say which module made them: 3 MB for 30 layers, and no runtime reads them.
    Signatures name their own inputs and outputs."""
    for graph in model.subgraphs:
        visible = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in visible:
                tensor.name = b""


def _pack(model: Any) -> bytearray:
    """The flatbuffer with every buffer aligned to 16 bytes, which the generated code ignores."""

    class Aligned(flatbuffers.Builder):  # type: ignore[misc]  # ships no types
        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802
            if x.dtype != np.uint8:
                return int(super().CreateNumpyVector(x))
            data = np.ascontiguousarray(x).tobytes()
            self.StartVector(1, len(data), _ALIGNMENT)
            self.head -= len(data)
            self.Bytes[self.head : self.head + len(data)] = data
            return int(self.EndVector())

    builder = Aligned(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytearray(builder.Output())


def _slots(packed: bytearray, found: Mapping[int, _Found], weights: QuantizedCheckpoint) -> Any:
    model = schema.Model.GetRootAsModel(packed, 0)
    for index, held in found.items():
        buffer = model.Buffers(index)
        table = buffer._tab
        start, size = table.Vector(table.Offset(4)), table.VectorLen(table.Offset(4))
        arrays = {part: array for part, _, array in tflite.parts(weights.read(held.name))}
        yield Slot(held.name, held.part, held.packing, arrays[held.part].shape, start, size)
    for graph_index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(graph_index)
        for tensor_index in range(graph.TensorsLength()):
            tensor = graph.Tensors(tensor_index)
            row_scales = found.get(tensor.Buffer())
            quantization = tensor.Quantization()
            if row_scales is None or row_scales.packing != "int8" or not quantization.ScaleLength():
                continue
            table = quantization._tab
            start = table.Vector(table.Offset(8))  # field 2: scale
            count = quantization.ScaleLength()
            yield Slot(row_scales.name, "scale", "float32", (count,), start, 4 * count)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
