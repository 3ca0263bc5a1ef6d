"""The Checkpoint: a verified, read-only model whose tensors are read one at a time.

Tensor names are Hugging Face's (`model.layers.0.self_attn.q_proj.weight`) whatever the source, and weights are in
Hugging Face's layout (llama.cpp's q/k row permutation is undone by the reader).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SourceInfo:
    """Where a checkpoint came from, as manifest.json records it."""

    kind: str  # "gguf" | "directory" | "hub"
    reference: str  # the alias, hub id or file/folder name (no absolute path)
    revision: str | None  # hub commit, or the alias' package version
    sha256: str  # content hash over weights, config and tokenizer: the same files give the same hash
    license: str | None  # SPDX identifier where the source states one


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor: `shape` in Hugging Face's order, `stored_type` as the source names it (Q4_1, BF16, ...)."""

    name: str
    shape: tuple[int, ...]
    stored_type: str


@dataclass(frozen=True)
class SourceCodes:
    """A 4-bit source's own grid: `weight = scale * (code - 8) + offset`, blocks of `group` along the last axis.

    codes: uint8 [out, in], values 0..15. scale: float32 [out, in / group], of either sign. offset: float32
    [out, in / group], already moved to the centred grid (GGUF Q4_1: m + 8 d; Q4_K: 8 d sc - dmin m; Q4_0: 0).
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    group: int


@dataclass(frozen=True)
class TokenizerAssets:
    """The tokenizer as the source defines it.

    tokenizer_json: text of a Hugging Face `tokenizer.json`. special ids: None where the source has none.
    stop_ids: every id that ends a turn (eos_token_id of the generation config, and the template's end of turn).
    """

    tokenizer_json: str
    chat_template: str | None
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    stop_ids: tuple[int, ...]
    bos_token: str = ""
    eos_token: str = ""


class Checkpoint(Protocol):
    """A verified model. Nothing is loaded until `read` or `codes` is called; both return one fresh array."""

    @property
    def model_id(self) -> str: ...

    @property
    def source(self) -> SourceInfo: ...

    @property
    def place(self) -> Path | None:
        """The folder or file on this machine that anybody else can read the same model from; None if in memory."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """Hugging Face config.json in its canonical form (satchel.source.canonical): every setting that matters."""
        ...

    @property
    def generation_config(self) -> Mapping[str, Any]: ...

    @property
    def tokenizer(self) -> TokenizerAssets: ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name; no `lm_head.weight` when tied."""
        ...

    def read(self, name: str) -> NDArray[np.float32]:
        """The tensor as float32 (dequantized if need be). Raises BadWeightsError on NaN or infinity."""
        ...

    def codes(self, name: str) -> SourceCodes | None:
        """The source's own 4-bit codes of this tensor, or None if it isn't 4-bit quantized."""
        ...


EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


def stored_name(checkpoint: Checkpoint, name: str) -> str:
    """The name under which the checkpoint has a parameter of transformers' model: a tied head is the embedding."""
    return EMBEDDING if name == HEAD and HEAD not in checkpoint.tensors else name


def is_tied(config: Mapping[str, Any]) -> bool:
    """True if the output head shares the embedding's table (`tie_word_embeddings`)."""
    return bool(config.get("tie_word_embeddings", False))


@dataclass(frozen=True)
class ArrayCheckpoint:
    """A Checkpoint held in memory: what tests and graph proofs use for tiny random models."""

    model_id: str
    source: SourceInfo
    config: Mapping[str, Any]
    tokenizer: TokenizerAssets
    arrays: Mapping[str, NDArray[np.float32]]
    generation_config: Mapping[str, Any] = field(default_factory=dict)
    place: Path | None = None

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {name: TensorInfo(name, array.shape, "F32") for name, array in self.arrays.items()}

    def read(self, name: str) -> NDArray[np.float32]:
        return self.arrays[name]

    def codes(self, name: str) -> SourceCodes | None:
        return None
