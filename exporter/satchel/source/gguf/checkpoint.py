"""A GGUF file as a Checkpoint: Hugging Face names and layout, one tensor at a time from its place in the file.

llama.cpp stores the rows of q and k so that the two halves of each head interleave (its rotary embedding turns
neighbouring rows); Hugging Face's layout keeps the halves apart. The permutation is undone here, for values and codes.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, MODEL_ARCH, GGMLQuantizationType
from gguf.quants import dequantize
from gguf.tensor_mapping import get_tensor_name_map
from numpy.typing import NDArray

from satchel.errors import BadWeightsError, CorruptModelError, UnsupportedModelError
from satchel.hashing import file_sha256
from satchel.source.checkpoint import EMBEDDING, HEAD, SourceCodes, SourceInfo, TensorInfo, TokenizerAssets
from satchel.source.checks import model_id_of, require_finite
from satchel.source.gguf.header import GgufHeader, GgufTensor, read_header
from satchel.source.gguf.tokenizer import tokenizer_assets
from satchel.source.support import checked_config

_TOP_MODULES = ("model.embed_tokens", "model.norm", "lm_head")
_LAYER_MODULES = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_BLOCK = 32  # inputs per block of Q4_0 and Q4_1
_Number = TypeVar("_Number", bound=np.generic)
_CHUNK_VALUES = 1 << 20  # tensors are dequantized in runs of rows of about this many values


class GgufCheckpoint:
    """A Checkpoint over a GGUF file. Made by `open_gguf`."""

    def __init__(self, path: Path, header: GgufHeader, model_id: str, source: SourceInfo) -> None:
        self.model_id = model_id
        self.source = source
        self.place: Path | None = path
        self._fields = header.fields
        self._stored = _hugging_face_names(header)
        self.config: Mapping[str, Any] = checked_config(path.name, _config(header, self._stored))
        self.generation_config: Mapping[str, Any] = _token_ids(header.fields)
        self.tensors: Mapping[str, TensorInfo] = {
            name: TensorInfo(name, stored.shape, stored.type.name) for name, stored in self._stored.items()
        }
        self._path = path

    @cached_property
    def tokenizer(self) -> TokenizerAssets:
        """The tokenizer of the file's metadata. Raises TokenizerError if there is none or it can't be represented."""
        return tokenizer_assets(self._fields)

    def read(self, name: str) -> NDArray[np.float32]:
        stored = self._tensor(name)
        values = np.empty(stored.shape, dtype=np.float32)
        rows = values.reshape(-1, stored.shape[-1])
        for part, raw in self._row_chunks(stored):
            rows[part] = dequantize(raw, stored.type)
            require_finite(name, rows[part])
        return self._unpermute(name, values)

    def codes(self, name: str) -> SourceCodes | None:
        stored = self._tensor(name)
        unpack = _UNPACK.get(stored.type)
        if unpack is None or len(stored.shape) != 2:
            return None
        outputs, inputs = stored.shape
        codes = np.empty(stored.shape, dtype=np.uint8)
        scale = np.empty((outputs, inputs // _BLOCK), dtype=np.float32)
        offset = np.empty_like(scale)
        for part, raw in self._row_chunks(stored):
            blocks = raw.reshape(len(raw), inputs // _BLOCK, -1)
            codes[part], scale[part], offset[part] = unpack(blocks)
            require_finite(f"{name} (a block scale)", scale[part])
            require_finite(f"{name} (a block minimum)", offset[part])
        return SourceCodes(
            codes=self._unpermute(name, codes),
            scale=self._unpermute(name, scale),
            offset=self._unpermute(name, offset),
            group=_BLOCK,
        )

    def _tensor(self, name: str) -> GgufTensor:
        try:
            return self._stored[name]
        except KeyError:
            raise BadWeightsError(f"{self.source.reference} has no tensor {name}.") from None

    def _row_chunks(self, stored: GgufTensor) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Runs of whole rows (along the last axis) and their bytes, uint8 [rows, bytes per row]."""
        values_per_row = stored.shape[-1]
        block, block_bytes = GGML_QUANT_SIZES[stored.type]
        row_bytes = values_per_row // block * block_bytes
        rows = stored.size // row_bytes
        step = max(1, _CHUNK_VALUES // values_per_row)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            raw = np.fromfile(self._path, np.uint8, count * row_bytes, offset=stored.start + first * row_bytes)
            yield slice(first, first + count), raw.reshape(count, row_bytes)

    def _unpermute(self, name: str, array: NDArray[_Number]) -> NDArray[_Number]:
        heads = {
            "self_attn.q_proj": self.config["num_attention_heads"],
            "self_attn.k_proj": self.config["num_key_value_heads"],
        }.get(".".join(name.split(".")[-3:-1]))
        if heads is None:
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
    """Open a GGUF file; `model_id`, `reference`, `revision` and `license_id` are known better by whoever fetched it.

    Raises CorruptModelError (truncated or damaged), UnsupportedModelError (architecture, feature or tensor type).
    """
    header = read_header(path)
    _refuse_unsupported(path.name, header)
    source = SourceInfo(
        kind="gguf",
        reference=reference or path.name,
        revision=revision,
        sha256=file_sha256(path),
        license=license_id or header.fields.get("general.license"),
    )
    return GgufCheckpoint(path, header, model_id or model_id_of(path), source)


def _q4_0(blocks: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """ggml's block_q4_0, 18 bytes: float16 d, 16 bytes of codes. `w = d (q - 8)`."""
    scale = _float16_at(blocks, 0)
    return _nibbles(blocks[..., 2:]), scale, np.zeros_like(scale)


def _q4_1(blocks: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """ggml's block_q4_1, 20 bytes: float16 d, float16 m, 16 bytes of codes. `w = d q + m = d (q - 8) + (m + 8 d)`."""
    scale = _float16_at(blocks, 0)
    return _nibbles(blocks[..., 4:]), scale, _float16_at(blocks, 2) + 8 * scale


def _float16_at(blocks: NDArray[np.uint8], position: int) -> NDArray[np.float32]:
    raw = np.ascontiguousarray(blocks[..., position : position + 2])
    return raw.view("<f2")[..., 0].astype(np.float32)


def _nibbles(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[rows, blocks, 16] bytes -> [rows, 32 * blocks] codes: a block's low nibbles come first, then its high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)


_Unpack = Callable[[NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]]
_UNPACK: Mapping[GGMLQuantizationType, _Unpack] = {GGMLQuantizationType.Q4_0: _q4_0, GGMLQuantizationType.Q4_1: _q4_1}


def _hugging_face_names(header: GgufHeader) -> dict[str, GgufTensor]:
    """Hugging Face name -> stored tensor. A tensor that has no place in the architecture is refused by name."""
    layers = header.fields["llama.block_count"]
    modules = [*_TOP_MODULES, *(f"model.layers.{i}.{module}" for i in range(layers) for module in _LAYER_MODULES)]
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, layers)
    found: dict[str, GgufTensor] = {}
    for module in modules:
        for part in ("weight", "bias"):
            stored = header.tensors.get(f"{names[module]}.{part}")
            if stored is not None:
                found[f"{module}.{part}"] = stored
    strangers = sorted(header.tensors.keys() - {stored.name for stored in found.values()})
    if strangers:
        raise UnsupportedModelError(
            f"the GGUF file holds {strangers[0]}, which is no part of the Llama architecture that it names, so it "
            "can't be converted exactly. Use the model's Hugging Face directory instead."
        )
    return found


def _config(header: GgufHeader, stored: Mapping[str, GgufTensor]) -> dict[str, Any]:
    """The metadata as a Hugging Face Llama config."""
    fields = header.fields
    heads = fields["llama.attention.head_count"]
    if EMBEDDING not in stored:
        raise BadWeightsError("the GGUF file has no token_embd.weight, so there is no embedding. Get the file again.")
    vocab_size, hidden_size = stored[EMBEDDING].shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("llama.attention.head_count_kv", heads),
        "head_dim": _head_dim(fields),
        "hidden_act": "silu",
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": fields.get("llama.rope.freq_base", 10000.0),
        "tie_word_embeddings": HEAD not in stored,
        "attention_bias": "model.layers.0.self_attn.q_proj.bias" in stored,
        "mlp_bias": "model.layers.0.mlp.gate_proj.bias" in stored,
    }


def _token_ids(fields: Mapping[str, Any]) -> dict[str, int]:
    named = {
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
    }
    return {name: token for name, token in named.items() if token is not None}


def _head_dim(fields: Mapping[str, Any]) -> int:
    hidden, heads = fields["llama.embedding_length"], fields["llama.attention.head_count"]
    return int(fields.get("llama.attention.key_length", hidden // heads))


_REQUIRED_FIELDS = (
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.layer_norm_rms_epsilon",
)


def _refuse_unsupported(file_name: str, header: GgufHeader) -> None:
    """Everything that the Llama config above could not say, or that gguf can't dequantize, is refused here."""
    fields = header.fields
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise UnsupportedModelError(
            f"{file_name} holds the GGUF architecture {architecture!r}; only 'llama' is read from GGUF files. "
            "Use the model's Hugging Face directory instead."
        )
    for name in _REQUIRED_FIELDS:
        if not isinstance(fields.get(name), int | float):
            raise CorruptModelError(f"{file_name} has no usable metadata entry {name}. Download it again.")
    use_directory = "Use the model's Hugging Face directory instead."
    if fields.get("llama.expert_count", 0):
        raise UnsupportedModelError(f"{file_name} is a mixture of experts, which can't be lowered yet.")
    if fields.get("llama.rope.scaling.type", "none") != "none" or "rope_freqs.weight" in header.tensors:
        raise UnsupportedModelError(
            f"{file_name} scales its rotary embedding, and GGUF does not keep how. {use_directory}"
        )
    if fields.get("llama.rope.dimension_count", _head_dim(fields)) != _head_dim(fields):
        raise UnsupportedModelError(f"{file_name} rotates only a part of each head. {use_directory}")
    if "llama.attention.sliding_window" in fields:
        raise UnsupportedModelError(f"{file_name} uses sliding window attention. {use_directory}")
    if not isinstance(fields.get("llama.attention.head_count_kv", 1), int):
        raise UnsupportedModelError(f"{file_name} has another number of heads in each layer. {use_directory}")
    for tensor in header.tensors.values():
        if not _can_dequantize(tensor.type):
            raise UnsupportedModelError(
                f"{tensor.name} in {file_name} has the GGUF type {tensor.type.name}, which can't be read. "
                "Use a file in another type, such as Q4_1, Q8_0 or F16."
            )


def _can_dequantize(kind: GGMLQuantizationType) -> bool:
    """Whether gguf has a dequantizer for the type: tried on one block of zeros."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8), kind)
    except NotImplementedError:
        return False
    return True
