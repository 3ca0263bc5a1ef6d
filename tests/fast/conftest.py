"""What tests of several modules need: small bundles on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from satchel.bundle import (
    Bundle,
    BundledModel,
    Manifest,
    Origin,
    Requirements,
    SpecialIds,
    Verdict,
    read_bundle,
    write_manifest,
)

MakeBundle = Callable[..., Bundle]

BUNDLE_FILES = {
    "program": "model.pte",
    "tokenizer_json": "tokenizer.json",
    "tokenizer": "tokenizer.bin",
    "prompt": "prompt.json",
    "golden": "golden.json",
    "slots": "slots.json",
}


@pytest.fixture
def make_bundle() -> MakeBundle:
    """make_bundle(folder, model="tiny", recipe="int4", backend="executorch"): a bundle whose files are a few bytes."""

    def make(folder: Path, model: str = "tiny", recipe: str = "int4", backend: str = "executorch") -> Bundle:
        folder.mkdir(parents=True)
        for role, name in BUNDLE_FILES.items():
            (folder / name).write_bytes(f"{role} of {model}\n".encode() * 100)
        manifest = Manifest(
            model=BundledModel(model, "LlamaForCausalLM", "apache-2.0", Origin("gguf", model, "0.1.2", "ab" * 32)),
            recipe=recipe,
            backend=backend,
            context_length=2048,
            prefill_chunk=64,
            vocab_size=512,
            special_ids=SpecialIds(bos=1, eos=2, pad=None, stop=(2,)),
            generation_defaults={"temperature": 0.0, "max_new_tokens": 256},
            requires=Requirements("0.1.0", "1.5.0", {"arm64-v8a": ("asimddp",)}),
            verdict=Verdict("passed", {"kl_mean": 0.035, "top1": 0.88}),
            tools={"satchel": "0.1.0"},
        )
        write_manifest(folder, manifest, BUNDLE_FILES)
        return read_bundle(folder)

    return make
