"""LiteRT-LM's own way from the model to its file: litert-torch's export_hf with its default recipe, dynamic int8.

Run as a program, `litert_lm_export.py MODEL CONTEXT FOLDER` leaves FOLDER/model.litertlm and FOLDER/model.tflite.
"""

import importlib.machinery
import json
import os
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from satchel.cache import Cache
from satchel.source.checkpoint import Checkpoint
from satchel.source.resolve import open_model
from satchel.tools import Tools

PROGRAM, PACKED = "model.tflite", "model.litertlm"


def export(checkpoint: Checkpoint, context_length: int, folder: Path) -> None:
    """Minutes of work and gigabytes of memory, in float32 from the dequantized weights."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        source, made = Path(temporary) / "source", Path(temporary) / "made"
        _write_directory(checkpoint, source)
        with _tensorflow_stand_in():
            from litert_torch.generative.export_hf import export as library
        library.export(
            model=str(source),
            output_dir=str(made),
            cache_length=context_length,
            keep_temporary_files=True,
            experimental_lightweight_conversion=True,
        )
        finished = Path(temporary) / "finished"
        finished.mkdir()
        (made / PACKED).rename(finished / PACKED)
        quantized = next(made.rglob("*quantized*.tflite"), made / PROGRAM)
        quantized.rename(finished / PROGRAM)
        shutil.rmtree(folder, ignore_errors=True)
        finished.rename(folder)


def _write_directory(checkpoint: Checkpoint, folder: Path) -> None:
    """The checkpoint as a Hugging Face directory with float32 weights."""
    from safetensors.numpy import save_file

    folder.mkdir()
    config = {**checkpoint.config, **checkpoint.generation_config}  # the second has the special ids
    tokenizer = checkpoint.tokenizer
    tokens = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": tokenizer.chat_template,
        **{name: token for name, token in tokens.items() if token},
    }
    generation = {"eos_token_id": list(tokenizer.stop_ids), "bos_token_id": tokenizer.bos_id}
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.tokenizer_json, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    save_file(
        {name: checkpoint.read(name) for name in checkpoint.tensors},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


@contextmanager
def _tensorflow_stand_in() -> Iterator[None]:
    """litert-torch 0.10.0's exporter imports TensorFlow, which it does not require, for one module of it: a schema that
    LiteRT ships too."""
    from ai_edge_litert import schema_py_generated as schema

    packages = ["tensorflow", "tensorflow.lite", "tensorflow.lite.python"]
    for name in packages:
        module = types.ModuleType(name)
        module.__path__ = []
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        sys.modules[name] = module
    sys.modules["tensorflow.lite.python.schema_py_generated"] = schema
    sys.modules["tensorflow.lite.python"].schema_py_generated = schema  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name in [*packages, "tensorflow.lite.python.schema_py_generated"]:
            sys.modules.pop(name, None)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    export(open_model(sys.argv[1], Cache.default(), Tools()), int(sys.argv[2]), Path(sys.argv[3]))
