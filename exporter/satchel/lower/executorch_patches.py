"""Makes ExecuTorch's lowering of a decoder about five times faster by patching private parts of it.

Every patch saves work whose result is unused or already known; none changes the program that comes out, which
`tests/real/test_lowering.py` shows by lowering a small model with and without them. They reach into names that
ExecuTorch may move, so satchel.backends requires the pinned versions first. Where the time goes without them (CPU
seconds for 30 layers): three `run_decompositions` 99, whole-graph retraces 67, XNNPACK passes that change nothing but
retrace 70.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram


@contextmanager
def fast_lowering() -> Iterator[None]:
    """Within the block, ExecuTorch's passes retrace cheaply."""
    with _skip_idle_xnnpack_passes(), _cheap_fake_quantization(), _memoized_retracing(), _one_dependency_viewer():
        yield


def to_edge_and_delegate(program: ExportedProgram, constant_methods: dict[str, Any]) -> Any:
    """`to_edge_transform_and_lower` for XNNPACK with one decomposition instead of three -> EdgeProgramManager.

    The library decomposes once per preserved set of operators; for one partitioner the sets are known beforehand.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig
    from executorch.exir.backend import backend_api
    from executorch.exir.program import _program

    partitioner = XnnpackPartitioner()
    config = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    preserved, _ = partitioner.ops_to_not_decompose(program)
    table = _program._default_decomposition_table()
    for operator in preserved:
        table.pop(operator, None)
    program = program.run_decompositions(table)
    edge = _program._generate_edge_program(config, program, preserve_ops=list(preserved))
    exceptions = set(config._core_aten_ops_exception_list) | set(preserved)
    config._core_aten_ops_exception_list = list(exceptions)
    manager = _program.EdgeProgramManager({"forward": edge}, constant_methods, config, list(preserved))
    with backend_api.validation_disabled():
        return manager.to_backend({"forward": partitioner})


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


# --- one set of dependencies instead of three ----------------------------------------------------------------------


@contextmanager
def _one_dependency_viewer() -> Iterator[None]:
    """The partitioner and its base class each compute all nodes' descendants, and ancestors that nobody asks for.

    Sets of nodes for each of ten thousand nodes: 0.6 GB each for a 30-layer decoder.
    """
    from executorch.exir.backend.canonical_partitioners import group_partitioner
    from torch.fx.passes.infra import partitioner

    viewer = partitioner._DependencyViewer
    last: list[tuple[Any, Any]] = []

    def shared(graph_module: Any) -> Any:
        if not last or last[0][0] is not graph_module:
            last[:] = [(graph_module, viewer(graph_module))]
        return last[0][1]

    with _patched(partitioner, "_DependencyViewer", shared), _patched(group_partitioner, "_DependencyViewer", shared):
        yield


# --- XNNPACK passes whose operators don't occur -------------------------------------------------------------------

_SPATIAL = ("convolution", "pool", "upsample", "batch_norm", "mean.dim", "prelu", "grid", "native_group_norm")

# pass -> fragments of operator names without which the pass changes nothing (it would still retrace the graph)
_NEEDS: dict[str, tuple[str, ...]] = {
    "XNNPACKRemoveCloneOpsTransform": ("clone", "alias"),
    "DimOrderOpsRevertPass": ("dim_order",),
    "ConvertToUpsampleBilinear2d": ("upsample", "index", "bilinear"),
    "ConvertToLinearPass": ("addmm", "aten.mm", "aten.bmm"),
    "ConvertToSDPAPass": ("scaled_dot", "softmax"),
    "FuseBatchNormPass": ("batch_norm",),
    "DecomposeBatchNorm": ("batch_norm",),
    "FuseActivationPass": ("relu", "hardtanh", "clamp"),
    "DecomposeConcatenate": ("aten.cat",),
    "RemoveGetItemPass": ("max_pool", "max.dim"),
    "InsertPadQDQPass": ("pad",),
    "Conv1dUnsqueezePass": ("convolution",),
    "PReLUReshapePass": ("prelu",),
    "ChannelsLastTaggedReshapePass": (*_SPATIAL, "dim_order", "_to_copy"),
    "RemoveRedundantCopyPass": ("_to_copy", "dim_order"),
}


def _pass_is_idle(name: str, program: ExportedProgram) -> bool:
    if name == "ConstPropPass":
        return not _has_foldable_constant(program)
    if name == "PropagateCustomMetaPass":
        return not any("custom" in node.meta for node in program.graph.nodes)
    if name not in _NEEDS:
        return False
    present = {node.target.__name__ for node in program.graph.nodes if node.op == "call_function"}
    return not any(fragment in operator for operator in present for fragment in _NEEDS[name])


def _has_foldable_constant(program: ExportedProgram) -> bool:
    from torch._export.utils import is_buffer, is_lifted_tensor_constant, is_param

    constant = set()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if is_param(program, node) or is_buffer(program, node) or is_lifted_tensor_constant(program, node):
                constant.add(node)
        elif node.op == "call_function" and node.all_input_nodes and constant.issuperset(node.all_input_nodes):
            if "dequantize" in node.target.__name__:  # ConstPropPass leaves these to the delegate itself
                continue
            return True
    return False


@contextmanager
def _skip_idle_xnnpack_passes() -> Iterator[None]:
    from executorch.backends.xnnpack import _passes

    original = _passes._transform

    def transform(program: ExportedProgram, *passes: Any) -> ExportedProgram:
        if len(passes) == 1 and _pass_is_idle(type(passes[0]).__name__, program):
            return program
        result: ExportedProgram = original(program, *passes)
        return result

    with _patched(_passes, "_transform", transform):
        yield


# --- shapes of quantized operators without running their decompositions on fake tensors ---------------------------


def _fake_quantize(tensor: Any, block: Any, scale: Any, zero: Any, dtype: torch.dtype, *_: Any, **__: Any) -> Any:
    return torch.empty_like(tensor, dtype=dtype)


def _fake_dequantize(
    tensor: torch.Tensor,
    block: Any,
    scale: Any,
    zero: Any,
    input_dtype: Any,
    quant_min: Any = None,
    quant_max: Any = None,
    output_dtype: torch.dtype = torch.float32,
) -> Any:
    return torch.empty_like(tensor, dtype=output_dtype)


def _fake_choose_qparams(
    tensor: torch.Tensor,
    mapping: Any,
    block: Any,
    dtype: Any,
    quant_min: Any = None,
    quant_max: Any = None,
    eps: Any = None,
    scale_dtype: torch.dtype | None = None,
    zero_point_dtype: torch.dtype | None = None,
    keepdim: bool = False,
) -> Any:
    shape: list[Any] = []
    for size, block_size in zip(tensor.shape, block, strict=True):
        if isinstance(block_size, int) and block_size == 1:
            shape.append(size)
        elif keepdim:
            shape.append(1)
    scale = torch.empty(shape, dtype=scale_dtype or tensor.dtype, device=tensor.device)
    return scale, torch.empty(shape, dtype=zero_point_dtype or torch.int32, device=tensor.device)


@contextmanager
def _cheap_fake_quantization() -> Iterator[None]:
    from executorch.exir.dialects.edge._ops import EdgeOpOverload
    from torch._inductor.decomposition import decompositions
    from torch._subclasses.fake_tensor import FakeTensor
    from torchao.quantization import quant_primitives

    operators = torch.ops.torchao
    fakes: dict[Any, Callable[..., Any]] = {
        operators.quantize_affine.default: _fake_quantize,
        operators.dequantize_affine.default: _fake_dequantize,
        operators.choose_qparams_affine.default: _fake_choose_qparams,
    }
    call = EdgeOpOverload.__call__
    choose = decompositions[operators.choose_qparams_affine.default]
    quantize = quant_primitives._quantize_affine_no_dtype_cast
    dequantize = quant_primitives._dequantize_affine_no_dtype_check

    def edge_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        fake = fakes.get(self._op)
        if fake is not None and isinstance(args[0], FakeTensor):
            return fake(*args, **kwargs)
        return call(self, *args, **kwargs)

    def choose_qparams(*args: Any, **kwargs: Any) -> Any:
        return _fake_choose_qparams(*args, **kwargs) if isinstance(args[0], FakeTensor) else choose(*args, **kwargs)

    def quantize_affine(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return torch.empty_like(tensor) if isinstance(tensor, FakeTensor) else quantize(tensor, *args, **kwargs)

    def dequantize_affine(
        tensor: Any,
        block: Any,
        scale: Any,
        zero: Any,
        low: Any,
        high: Any,
        dtype: Any = torch.float32,
        *rest: Any,
    ) -> Any:
        if isinstance(tensor, FakeTensor):
            return torch.empty_like(tensor, dtype=dtype)
        return dequantize(tensor, block, scale, zero, low, high, dtype, *rest)

    with (
        # The library ends with the block, and the dispatcher goes back to torchao's own kernel.
        torch.library._scoped_library("torchao", "IMPL") as library,
        _patched(EdgeOpOverload, "__call__", edge_call),
        _patched(quant_primitives, "_quantize_affine_no_dtype_cast", quantize_affine),
        _patched(quant_primitives, "_dequantize_affine_no_dtype_check", dequantize_affine),
    ):
        library.impl("choose_qparams_affine", choose_qparams, "CompositeImplicitAutograd", allow_override=True)
        yield


# --- retracing that remembers -------------------------------------------------------------------------------------


@contextmanager
def _memoized_retracing() -> Iterator[None]:
    """Passes retrace the whole graph: an operator already run on the same fake arguments isn't run again."""
    from executorch.exir import pass_base
    from executorch.exir.delegate import executorch_call_delegate
    from executorch.exir.dialects.edge._ops import EdgeOpOverload
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.utils import _pytree as pytree

    owner = pass_base._ExportPassBase
    original = owner._fx
    memo: dict[Any, tuple[Any, list[torch.Tensor]]] = {}

    def data(value: Any) -> Any:
        return pytree.tree_map_only(pass_base.ProxyValue, lambda proxy: proxy.data, value)

    def proxies(value: Any) -> Any:
        return pytree.tree_map_only(pass_base.ProxyValue, lambda proxy: proxy.proxy, value)

    def finish(
        self: Any, kind: str, target: Any, args: Any, kwargs: Any, meta: Any, result: Any, name: str | None
    ) -> Any:
        proxy = self.tracer.create_proxy(kind, target, proxies(args), proxies(kwargs), name=name)
        proxy.node.meta.update(meta.data)
        self.tracer.set_metadata(proxy.node, result)
        return pass_base.ProxyValue(result, proxy)

    def remembers(target: Any) -> bool:
        return isinstance(target, torch._ops.OpOverload | EdgeOpOverload) or (
            getattr(target, "__name__", "") == "auto_functionalized_v2"
        )

    def fx(self: Any, kind: str, target: Any, args: Any, kwargs: Any, meta: Any) -> Any:
        if target is executorch_call_delegate and "val" in meta.data:
            return finish(self, kind, target, args, kwargs, meta, meta.data["val"], None)
        if kind != "call_function" or not remembers(target):
            return original(self, kind, target, args, kwargs, meta)
        tensors: list[torch.Tensor] = []
        actual_args, actual_kwargs = data(args), data(kwargs)
        operator = target._op if isinstance(target, EdgeOpOverload) else target
        key = (operator, _key(actual_args, tensors), _key(actual_kwargs, tensors))
        try:
            known = memo.get(key)
        except TypeError:  # an argument that can't be hashed: run it
            return original(self, kind, target, args, kwargs, meta)
        # id() may be reused after a tensor dies, so the very tensors are compared.
        if known is not None and all(mine is theirs for mine, theirs in zip(tensors, known[1], strict=True)):
            result = known[0]
        else:
            result = getattr(self.interpreter, kind)(target, actual_args, actual_kwargs)
            parts = result if isinstance(result, tuple | list) else (result,)
            symbolic = "_local_scalar_dense" in str(target)
            if all(isinstance(p, FakeTensor) or (symbolic and isinstance(p, torch.SymInt)) for p in parts):
                memo[key] = (result, tensors)
        name = None
        if isinstance(target, torch._ops.OpOverload):
            name = self.tracer.graph._target_to_str(target.overloadpacket.__name__)
        return finish(self, kind, target, args, kwargs, meta, result, name)

    with _patched(owner, "_fx", fx):
        yield


def _key(value: Any, tensors: list[torch.Tensor]) -> Any:
    """A hashable stand-in for an argument; the tensors in it are collected in order."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return ("tensor", id(value))
    if isinstance(value, torch.SymInt | torch.SymBool | torch.SymFloat):
        return ("symbol", type(value).__name__, value.node.expr)
    if isinstance(value, list | tuple):
        return ("sequence", *(_key(item, tensors) for item in value))
    if isinstance(value, dict):
        return ("mapping", *((name, _key(item, tensors)) for name, item in sorted(value.items())))
    return (type(value).__name__, repr(value) if isinstance(value, float) else value)
