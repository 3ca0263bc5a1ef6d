"""A Llama of two layers with random weights that can chat: small, and float, so that last bits stay last bits."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from satchel.bundle.folder import Bundle, read_bundle, write_manifest
from satchel.bundle.manifest import SpecialIds
from satchel.quantize.plan import QuantPlan, TensorPlan
from satchel.reference.tokenizer import Tokenizer

CONTEXT, CHUNK = 512, 16
CONFORMANCE = Path(__file__).parents[1] / "conformance"
SHAPE: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 24,  # not a whole number of vectors
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
}
MakeBundle = Callable[..., Bundle]


def lowered(config: dict[str, Any], stop_ids: tuple[int, ...]) -> tuple[bytes, dict[str, int]]:
    """A float program with random weights, and what a manifest says of its sizes."""
    from satchel.lower.decoder import parameter_shapes
    from satchel.lower.executorch import lower
    from satchel.skeleton.spec import ProgramSpec

    plan = QuantPlan({name: TensorPlan("float") for name in parameter_shapes(config)}, tied=False)
    program, _ = lower(ProgramSpec(config, plan, CONTEXT, CHUNK, None, stop_ids), None)
    return bytes(program), {
        "vocab_size": config["vocab_size"],
        "context_length": CONTEXT,
        "prefill_chunk": CHUNK,
    }


def small_chat_bundle(folder: Path, make_bundle: MakeBundle) -> Bundle:
    """Its bundle in `folder`, with the tokenizer and a prompt program of the shared cases."""
    tokenizer = base64.b64decode(json.loads((CONFORMANCE / "tokenizers.json").read_text())["tokenizers"]["chat"])
    prompt = json.loads((CONFORMANCE / "prompt.json").read_text())["programs"]["chatml"]
    end = next(int(token) for token, text in prompt["special_tokens"].items() if text == "<|im_end|>")
    config = {"model_type": "llama", "vocab_size": Tokenizer.from_bytes(tokenizer).vocab_size, **SHAPE}
    program, sizes = lowered(config, (end,))
    bundle = make_bundle(folder, recipe="float", program=program, **sizes)
    bundle.file("tokenizer").write_bytes(tokenizer)
    bundle.file("prompt").write_text(json.dumps(prompt), encoding="utf-8")
    manifest = replace(bundle.manifest, special_ids=SpecialIds(bos=None, eos=end, pad=None, stop=(end,)))
    write_manifest(folder, manifest, {artifact.role: artifact.file for artifact in bundle.manifest.artifacts})
    return read_bundle(folder)
