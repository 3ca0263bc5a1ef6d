"""The float reference reads the evaluation texts: once per model and texts, kept in the cache, and judged."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from satchel.errors import NonsenseError
from satchel.files import canonical_json
from satchel.source.checkpoint import Checkpoint, stored_name
from satchel.validate.expected import Expected, bits_needed
from satchel.validate.texts import Evaluation, Text
from satchel.versions import found_here, processor, source_hash
from satchel.workshop import Workshop

if TYPE_CHECKING:
    from satchel.validate.reference import Reference

# Of what a model needs that only knows how often each token occurs: so much is near it, and so much is doubtful.
NONSENSE, DOUBTFUL = 0.95, 0.75
_TOOLS = ("torch", "transformers")
_BITS = "bits.json"


def has_reference() -> bool:
    """True if a float reference can be computed here (torch and transformers are installed)."""
    return find_spec("torch") is not None and find_spec("transformers") is not None


def expected(checkpoint: Checkpoint, evaluation: Evaluation, workshop: Workshop) -> Expected:
    """What the reference expects of the texts, from the cache if it was computed before on this machine."""

    @cache
    def reference() -> "Reference":
        """Made when it is asked for: a build whose measurements are in the cache waits for no import of PyTorch."""
        from satchel.validate.reference import Reference

        return Reference(checkpoint.config, lambda name: checkpoint.read(stored_name(checkpoint, name)))

    with workshop.console.stage("Reference") as stage:
        key = expected_key(checkpoint, evaluation)
        folder = workshop.cache.find("reference", key)
        if folder is not None:
            stage.reused()
        else:
            stage.note(f"{evaluation.tokens} tokens through the float model")
            folder = workshop.cache.get_or_build(
                "reference", key, lambda attempt: _read_texts(evaluation, reference(), attempt, stage.progress)
            )
        bits = json.loads((folder / _BITS).read_text(encoding="utf-8"))
        hidden = {text.name: np.load(folder / _file(index)) for index, text in enumerate(evaluation.all)}
        found = Expected(evaluation, hidden, bits, lambda states: reference().logits_of(states))
        if found.bits_per_byte is not None:
            stage.note(f"{found.bits_per_byte:.2f} bits per byte")
        return found


def expected_key(checkpoint: Checkpoint, evaluation: Evaluation) -> dict[str, Any]:
    """What it depends on: the source, the texts, what computes, this machine."""
    return {
        "source": checkpoint.source.sha256,
        "texts": {text.name: [int(i) for i in text.ids] for text in evaluation.all},
        "tools": found_here(*_TOOLS),
        "machine": processor(),
        "code": source_hash("validate.expected", "validate.reference"),
    }


def require_sense(found: Expected) -> str:
    """A warning if the reference predicts Satchel's texts badly, else empty.

    Raises NonsenseError if it does hardly better than a model that knows nothing but how often each token occurs in
    them: whatever format such a model is packed in, it talks nonsense.
    """
    mine = sum(found.bits.values())
    share = mine / unigram_bits(found.evaluation.all)
    if share < DOUBTFUL:
        return ""
    told = (
        f"The float model needs {share:.0%} of the bits for Satchel's evaluation texts that a model needs which only "
        "knows how often each token occurs"
    )
    if share >= NONSENSE:
        raise NonsenseError(
            f"{told}: it talks nonsense. Its weights, config.json and tokenizer don't belong together, or it was not "
            "trained. Try it in transformers first."
        )
    return f"{told}: it may talk nonsense. Read a few answers before you ship it."


def unigram_bits(texts: Sequence[Text]) -> float:
    """Bits for the tokens after the first of each text, by the best model that ignores what comes before."""
    following = np.concatenate([text.ids[1:] for text in texts])
    _, counts = np.unique(following, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def _read_texts(
    evaluation: Evaluation, reference: "Reference", folder: Path, progress: Callable[[int, int], None]
) -> None:
    bits, done = {}, 0
    for index, text in enumerate(evaluation.all):
        hidden = reference.hidden(text.ids)
        np.save(folder / _file(index), hidden)
        bits[text.name] = bits_needed(text, hidden, reference.logits_of)
        done += len(text.ids)
        progress(done, evaluation.tokens)
    (folder / _BITS).write_bytes(canonical_json(bits))


def _file(index: int) -> str:
    return f"hidden-{index}.npy"
