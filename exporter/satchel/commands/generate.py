"""generate(): a bundle answers a prompt on this machine, the way the device SDK would."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from satchel.backends.registry import backend_of
from satchel.bundle.folder import Bundle, find_bundles, verify_bundle
from satchel.console import Console
from satchel.errors import UsageError
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.session import GenerateOptions
from satchel.reference.session import generate as generate_text
from satchel.reference.tokenizer import Tokenizer


@dataclass(frozen=True)
class GenerateRequest:
    """What `satchel generate` was asked for. temperature: None for the bundle's default."""

    bundle: Path
    prompt: str
    backend: str | None = None
    raw: bool = False
    max_tokens: int = 256
    temperature: float | None = None
    seed: int = 0


def generate(request: GenerateRequest, console: Console) -> dict[str, Any]:
    """Streams the answer to the console and returns `{"text", "ids", "finish_reason", "stats"}`."""
    bundle = _chosen(request)
    backend = backend_of(bundle)
    verify_bundle(bundle)
    manifest = bundle.manifest
    options = _options(request, manifest.generation_defaults)
    tokenizer = Tokenizer.from_bytes(bundle.file("tokenizer").read_bytes())
    ids = _prompt_ids(bundle, tokenizer, request)
    engine = backend.runtime()(bundle.file("program"), None)
    text, generated = "", list[int]()
    try:
        for chunk in generate_text(engine, tokenizer, ids, manifest.special_ids.stop, options):
            console.text(chunk.text)
            text += chunk.text
            generated += chunk.ids
    finally:
        engine.close()
    assert chunk.finish_reason is not None
    assert chunk.stats is not None
    return {"text": text, "ids": generated, "finish_reason": str(chunk.finish_reason), "stats": asdict(chunk.stats)}


def _options(request: GenerateRequest, defaults: Mapping[str, float | int]) -> GenerateOptions:
    """What was asked for; the rest as the model's source recommends."""
    temperature = float(defaults.get("temperature", 0.0)) if request.temperature is None else request.temperature
    recommended: dict[str, Any] = {name: defaults[name] for name in _SAMPLING if name in defaults}
    return GenerateOptions(max_new_tokens=request.max_tokens, temperature=temperature, seed=request.seed, **recommended)


_SAMPLING = ("top_k", "top_p", "min_p", "repetition_penalty")


def _chosen(request: GenerateRequest) -> Bundle:
    found = find_bundles(request.bundle)
    names = list(dict.fromkeys(bundle.manifest.backend for bundle in found))
    if request.backend is None and len(names) > 1:
        raise UsageError(f"{request.bundle} has several bundles: choose one with --backend {'|'.join(names)}")
    fitting = [bundle for bundle in found if request.backend in (None, bundle.manifest.backend)]
    if not fitting:
        raise UsageError(f"{request.bundle} has no bundle for {request.backend}; it has {', '.join(names)}")
    if len(fitting) > 1:
        folders = ", ".join(str(bundle.path) for bundle in fitting)
        raise UsageError(f"{request.bundle} has several bundles for the same backend: name one of {folders}")
    return fitting[0]


def _prompt_ids(bundle: Bundle, tokenizer: Tokenizer, request: GenerateRequest) -> list[int]:
    if request.raw:
        return tokenizer.encode_raw(request.prompt)
    program = PromptProgram.from_json(bundle.file("prompt").read_text(encoding="utf-8"))
    return program.encode(tokenizer, [Turn("user", request.prompt)])
