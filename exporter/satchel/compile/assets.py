"""A model's tokenizer and chat template to what devices read: tokenizer.bin and prompt.json, kept in the cache."""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satchel.bundle.folder import PROMPT, TOKENIZER, TOKENIZER_JSON
from satchel.compile.prompt import compile_prompt
from satchel.compile.tokenizer import compile_tokenizer
from satchel.reference.prompt import PromptProgram
from satchel.reference.tokenizer import Tokenizer
from satchel.source.checkpoint import Checkpoint
from satchel.versions import found_here, source_hash
from satchel.workshop import Workshop


@dataclass(frozen=True)
class TextAssets:
    """The tokenizer and the prompt program, compiled for devices."""

    tokenizer_json: str
    tokenizer_bytes: bytes
    tokenizer: Tokenizer
    program: PromptProgram


def text_assets(checkpoint: Checkpoint, workshop: Workshop) -> TextAssets:
    """Compiles tokenizer and chat template, cached: character classes are found by probing every code point.

    Raises TokenizerError or PromptTemplateError naming the construct that can't be represented.
    """
    source, key = checkpoint.tokenizer, text_key(checkpoint)
    with workshop.console.stage("Text") as stage:
        folder = workshop.cache.find("text", key)
        if folder is not None:
            stage.reused()
        else:
            folder = workshop.cache.get_or_build("text", key, lambda attempt: _compile_text(checkpoint, attempt))
        compiled = (folder / TOKENIZER).read_bytes()
        program = PromptProgram.from_json((folder / PROMPT).read_text(encoding="utf-8"))
        return TextAssets(source.tokenizer_json, compiled, Tokenizer.from_bytes(compiled), program)


def text_key(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the tables depend on: the tokenizer and the template, and what renders, probes and compiles them."""
    source = checkpoint.tokenizer
    return {
        "tokenizer": hashlib.sha256(source.tokenizer_json.encode()).hexdigest(),
        "template": source.chat_template,
        "tokens": [source.bos_token, source.eos_token],
        "code": source_hash("compile.prompt", "compile.tokenizer"),
        "tools": found_here("jinja2", "regex", "tokenizers"),
        "python": platform.python_version(),  # its Unicode tables take part
    }


def _compile_text(checkpoint: Checkpoint, folder: Path) -> None:
    source = checkpoint.tokenizer
    compiled = compile_tokenizer(source.tokenizer_json)
    program = compile_prompt(source.chat_template, Tokenizer.from_bytes(compiled), source.bos_token, source.eos_token)
    (folder / TOKENIZER).write_bytes(compiled)
    (folder / PROMPT).write_text(program.to_json(), encoding="utf-8")


def write_text_assets(assets: TextAssets, folder: Path) -> None:
    """tokenizer.json, tokenizer.bin and prompt.json of a bundle."""
    (folder / TOKENIZER_JSON).write_text(assets.tokenizer_json, encoding="utf-8")
    (folder / TOKENIZER).write_bytes(assets.tokenizer_bytes)
    (folder / PROMPT).write_text(assets.program.to_json(), encoding="utf-8")
