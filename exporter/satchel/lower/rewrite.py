"""Rewrites of an exported decoder graph, the same for every family, that make XNNPACK take more of it.

XNNPACK has no general mean and refuses slices of dynamic shapes, so an untouched decoder falls into about five
delegates per layer: slow to lower and slower to run. Each rewrite is exact up to float32 rounding:

- `mean(x^2, -1)` (RMSNorm) becomes `linear(x * x, ones / n)`;
- `cat(-x[h:], x[:h])` (rotary embedding's rotate-half) becomes `linear(x, P)` with P a signed permutation;
- casts to the dtype a tensor already has disappear;
- `gelu(approximate="tanh")` is spelled out: XNNPACK's delegate takes it but computes the erf form (1e-3 off);
- a view whose only symbolic size is the token count says -1 there, so that it stays inside a delegate.
"""

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorConverter
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec, TensorArgument
from torch.fx import Node

aten = torch.ops.aten


def rewrite(program: ExportedProgram) -> ExportedProgram:
    """Applies every rewrite to the program's graph, in place, and returns it."""
    constants = _Constants(program)
    drop_casts(program)
    mean_to_linear(program, constants)
    rotate_half_to_linear(program, constants)
    spell_out_tanh_gelu(program)
    merge_equal_linears(program)
    infer_token_dimension(program)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


class _Constants:
    """Adds each constant to the program once, as a buffer, however many layers use it."""

    def __init__(self, program: ExportedProgram) -> None:
        self._program = program
        self._nodes: dict[str, Node] = {}

    def get(self, name: str, make: Callable[[], torch.Tensor]) -> Node:
        if name not in self._nodes:
            self._nodes[name] = self._add(name, make())
        return self._nodes[name]

    def _add(self, name: str, value: torch.Tensor) -> Any:
        """ExecuTorch's `create_constant_placeholder` would do, but it needs the first weight to be a plain tensor."""
        program = self._program
        first = next(node for node in program.graph.nodes if node.op == "placeholder")
        with program.graph.inserting_before(first):
            node = program.graph.placeholder(name)
        values = (other.meta.get("val") for other in program.graph.nodes)
        mode = next(value.fake_mode for value in values if isinstance(value, FakeTensor))
        node.meta["val"] = FakeTensorConverter().from_real_tensor(mode, t=value)
        program.state_dict[name] = value
        spec = InputSpec(InputKind.BUFFER, TensorArgument(node.name), name, persistent=True)
        signature = program.graph_signature
        program._graph_signature = ExportGraphSignature([spec, *signature.input_specs], signature.output_specs)
        return node


def _calls(program: ExportedProgram, target: object) -> list[Node]:
    return [node for node in program.graph.nodes if node.op == "call_function" and node.target is target]


def _replace(program: ExportedProgram, old: Node, target: Any, args: tuple[Any, ...]) -> None:
    """Puts a call of `target` with the same value in the place of `old`."""
    with program.graph.inserting_before(old):
        new = program.graph.call_function(target, args)
    new.meta.update(old.meta)
    old.replace_all_uses_with(new)
    program.graph.erase_node(old)


def drop_casts(program: ExportedProgram) -> None:
    """Removes casts to the same dtype and the metadata assertions that guard them."""
    for node in _calls(program, aten._assert_tensor_metadata.default):
        program.graph.erase_node(node)
    for target in (aten.to.dtype, aten.type_as.default, aten.alias.default, aten.to.dtype_layout):
        for node in _calls(program, target):
            source = node.args[0]
            if isinstance(source, Node) and source.meta["val"].dtype == node.meta["val"].dtype:
                node.replace_all_uses_with(source)
                program.graph.erase_node(node)


def mean_to_linear(program: ExportedProgram, constants: _Constants) -> None:
    """RMSNorm's `mean(pow(x, 2), [-1], keepdim)` -> `linear(mul(x, x), full([1, n], 1 / n))`."""
    for mean in _calls(program, aten.mean.dim):
        squared = mean.args[0]
        if not (isinstance(squared, Node) and squared.target is aten.pow.Tensor_Scalar and squared.args[1] == 2):
            continue
        if mean.args[1] not in ([-1], [squared.meta["val"].dim() - 1]) or mean.args[2:] != (True,):
            continue
        source, width = squared.args[0], squared.meta["val"].shape[-1]
        ones = constants.get(f"satchel_mean_{width}", partial(torch.full, (1, width), 1.0 / width))
        with program.graph.inserting_before(mean):
            product = program.graph.call_function(aten.mul.Tensor, (source, source))
        product.meta.update(squared.meta)
        _replace(program, mean, aten.linear.default, (product, ones))


def rotate_half_to_linear(program: ExportedProgram, constants: _Constants) -> None:
    """`cat([neg(x[..., h:]), x[..., :h]], -1)` -> `linear(x, P)` with y[i] = -x[i + h], y[i + h] = x[i]."""
    for cat in _calls(program, aten.cat.default):
        parts: Any = cat.args[0]
        if not (isinstance(parts, list | tuple) and len(parts) == 2 and all(isinstance(part, Node) for part in parts)):
            continue
        negated: Any
        low: Any
        negated, low = parts
        if negated.target is not aten.neg.default or low.target is not aten.slice.Tensor:
            continue
        high = negated.args[0]
        if not (isinstance(high, Node) and high.target is aten.slice.Tensor and high.args[0] is low.args[0]):
            continue
        source: Any = high.args[0]
        shape = source.meta["val"].shape
        half, last = int(shape[-1]) // 2, len(shape) - 1
        expected_high = high.args[1] in (last, -1) and high.args[2] == half and high.meta["val"].shape[-1] == half
        expected_low = low.args[1:4] in ((last, 0, half), (-1, 0, half))
        if not (expected_high and expected_low):
            continue
        permutation = constants.get(f"satchel_rotate_{2 * half}", partial(_rotation, half))
        _replace(program, cat, aten.linear.default, (source, permutation))
    program.graph.eliminate_dead_code()


def _rotation(half: int) -> torch.Tensor:
    matrix = torch.zeros(2 * half, 2 * half)
    index = torch.arange(half)
    matrix[index, index + half] = -1.0
    matrix[index + half, index] = 1.0
    return matrix


def spell_out_tanh_gelu(program: ExportedProgram) -> None:
    """`gelu(x, "tanh")` -> `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` (Hendrycks and Gimpel 2016)."""
    root = math.sqrt(2.0 / math.pi)
    for gelu in _calls(program, aten.gelu.default):
        if gelu.kwargs.get("approximate") != "tanh":
            continue
        x = gelu.args[0]

        def call(target: Any, *args: Any, like: Node = gelu) -> Any:
            with program.graph.inserting_before(like):
                node = program.graph.call_function(target, args)
            node.meta.update(like.meta)
            return node

        square = call(aten.mul.Tensor, x, x)
        slope = call(aten.add.Tensor, call(aten.mul.Tensor, square, root * 0.044715), root)
        tanh = call(aten.tanh.default, call(aten.mul.Tensor, x, slope))
        half = call(aten.mul.Tensor, x, 0.5)
        _replace(program, gelu, aten.mul.Tensor, (half, call(aten.add.Tensor, tanh, 1.0)))


def merge_equal_linears(program: ExportedProgram) -> None:
    """q, k and v ask for the same block sums of the same input: computes them once."""
    signature, buffers = program.graph_signature, {**program.constants, **program.state_dict}

    def identity(weight: object) -> object:
        """Equal for placeholders that hold the same buffer (each module registers it under a name of its own)."""
        name = signature.inputs_to_buffers.get(weight.name) if isinstance(weight, Node) else None
        return weight if name is None else buffers[name].data_ptr()

    seen: dict[tuple[object, ...], Node] = {}
    for node in _calls(program, aten.linear.default):
        key = (node.args[0], identity(node.args[1]), node.args[2:])
        if key in seen:
            node.replace_all_uses_with(seen[key])
            program.graph.erase_node(node)
        else:
            seen[key] = node


def infer_token_dimension(program: ExportedProgram) -> None:
    """Says -1 for the one symbolic size of a view whose other sizes are known numbers."""
    for target in (aten.view.default, aten.reshape.default, aten._unsafe_view.default):
        for node in _calls(program, target):
            sizes, value = list(cast(Any, node.args[1])), node.meta["val"].shape
            symbolic = [index for index, size in enumerate(sizes) if isinstance(size, Node)]
            others = [value[index] for index in range(len(sizes)) if index not in symbolic]
            if len(symbolic) == 1 and all(isinstance(size, int) for size in others):
                known = [-1 if index in symbolic else operator.index(value[index]) for index in range(len(sizes))]
                node.args = (node.args[0], known)
