"""Gives a converted float32 program the quantized weights it stands for.

The converter (litert-torch 0.10.0) can write int4 groups only for values that it quantizes itself. So a program is
converted with dequantized weights, and here each of them, found by its content, becomes codes with a quantized type:
int4 in groups with float16 scales, int8 with a scale per row. XNNPACK then runs the operator with dynamic int8
activations. All signatures share one copy of codes and scales.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from numpy.typing import NDArray

from satchel.errors import LoweringError
from satchel.formats.carried import carried_offset, code_weight
from satchel.formats.packing import PACKINGS
from satchel.quantize.checkpoint import QuantizedCheckpoint, QuantizedTensor

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # of constants in the file, as schema.fbs has it; the generated writer forgets it


def with_quantized_weights(program: bytearray, weights: QuantizedCheckpoint, names: Sequence[str]) -> bytearray:
    """The .tflite bytes with every quantized tensor of `names` in its quantized type.

    Raises LoweringError if a tensor is not in the program exactly once.
    """
    model = schema.ModelT.InitFromPackedBuf(program, 0)
    places: dict[str, list[int]] = {}
    for number, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data):
            places.setdefault(hashlib.sha256(buffer.data).hexdigest(), []).append(number)
    replaced: dict[int, _Replacement] = {}
    zeros: dict[int, int] = {}
    for name in names:
        for part, tensor in _quantized_parts(name, weights.read(name)):
            digest = hashlib.sha256(code_weight(tensor).tobytes()).hexdigest()
            found = places.get(digest, [])
            if len(found) != 1:
                raise LoweringError(f"LiteRT's converter left {len(found)} copies of {part}, not one")
            replaced[found[0]] = _Replacement.of(model, found[0], part, tensor, zeros)
    for subgraph in model.subgraphs:
        _drop_names(subgraph)
        for tensor in list(subgraph.tensors):
            if tensor.buffer in replaced:
                replaced[tensor.buffer].retype(subgraph, tensor)
    model.buffers = [_AlignedBuffer(buffer) for buffer in model.buffers]
    builder = Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytearray(builder.Output())


def _drop_names(subgraph: Any) -> None:
    """The names of computed tensors, which hold the path of their module: a megabyte of text for 30 layers."""
    kept = {*subgraph.inputs, *subgraph.outputs}
    for index, tensor in enumerate(subgraph.tensors):
        if index not in kept:
            tensor.name = b""


def _quantized_parts(name: str, tensor: QuantizedTensor) -> list[tuple[str, QuantizedTensor]]:
    """The matrices that a tensor became in the program, with their names in an error."""
    if tensor.codes is None:
        return []
    offsets = [] if tensor.offset is None else [(f"{name}.offset", carried_offset(tensor))]
    return [(name, tensor), *offsets]


@dataclass(frozen=True)
class _Replacement:
    """What the tensors of one buffer become. rows: scales of int8 rows. scales: buffer of the scales of int4 groups."""

    name: str
    group: int
    rows: "_SharedRows | None"
    scales: int | None
    scales_shape: tuple[int, ...]

    @classmethod
    def of(cls, model: Any, buffer: int, name: str, tensor: QuantizedTensor, zeros: dict[int, int]) -> "_Replacement":
        """Puts the codes, and scales of groups, into the model's buffers."""
        assert tensor.codes is not None and tensor.scale is not None
        scheme = tensor.plan.scheme
        model.buffers[buffer].data = _bytes(PACKINGS["int4_signed" if scheme == "int4" else scheme].pack(tensor.codes))
        if scheme == "int8":
            return cls(name, 0, _SharedRows(tensor.scale, zeros), None, ())
        scales = schema.BufferT()
        scales.data = _bytes(PACKINGS["float16"].pack(tensor.scale))
        model.buffers.append(scales)
        return cls(name, tensor.plan.group, None, len(model.buffers) - 1, tensor.scale.shape)

    def retype(self, subgraph: Any, tensor: Any) -> None:
        tensor.name = self.name
        if self.rows is not None:
            tensor.type, tensor.quantization = schema.TensorType.INT8, self.rows
            return
        scales = schema.TensorT()
        scales.name, scales.type = f"{self.name}.scale", schema.TensorType.FLOAT16
        scales.shape, scales.hasRank = np.array(self.scales_shape, np.int32), True
        scales.buffer = self.scales
        subgraph.tensors.append(scales)
        blocks = schema.BlockwiseQuantizationT()
        blocks.scales, blocks.zeroPoints, blocks.blockSize = len(subgraph.tensors) - 1, -1, self.group
        quantization = schema.QuantizationParametersT()
        quantization.detailsType, quantization.details = schema.QuantizationDetails.BlockwiseQuantization, blocks
        tensor.type, tensor.quantization = schema.TensorType.INT4, quantization


class _SharedRows(schema.QuantizationParametersT):  # type: ignore[misc]  # generated, without types
    """Scales per row, written to the file once, however many tensors point to them.

    zeros: number of rows -> the vector of that many zero points, which LiteRT demands; all tables share it.
    """

    def __init__(self, scale: NDArray[np.float32], zeros: dict[int, int]) -> None:
        super().__init__()
        self.scale = scale
        self._zeros = zeros
        self._written: int | None = None

    def Pack(self, builder: Builder) -> int:  # noqa: N802  the generated code's name
        if self._written is None:
            rows = len(self.scale)
            scale = builder.CreateNumpyVector(self.scale)
            if rows not in self._zeros:
                self._zeros[rows] = builder.CreateNumpyVector(np.zeros(rows, np.int64))
            schema.QuantizationParametersStart(builder)
            schema.QuantizationParametersAddScale(builder, scale)
            schema.QuantizationParametersAddZeroPoint(builder, self._zeros[rows])
            schema.QuantizationParametersAddQuantizedDimension(builder, 0)
            self._written = int(schema.QuantizationParametersEnd(builder))
        return self._written


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # generated, without types
    """A constant that begins at a multiple of 16 bytes in the file."""

    def __init__(self, buffer: Any) -> None:
        super().__init__()
        self.data = buffer.data

    def Pack(self, builder: Builder) -> int:  # noqa: N802  the generated code's name
        if self.data is None:
            return int(super().Pack(builder))
        data = np.ascontiguousarray(self.data, np.uint8)
        builder.StartVector(1, len(data), _ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data.tobytes()
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
