"""What a lowered program depends on. Free of torch, so that a cached Skeleton is found without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from satchel.quantize.plan import QuantPlan
from satchel.source.checkpoint import Checkpoint


@dataclass(frozen=True)
class ProgramSpec:
    """All that a program depends on besides its weights and the tools' versions.

    config: canonical (satchel.source.canonical). bos_id, stop_ids: what a
    program tells runners that ask; written when it is filled, so no part of the key.
    """

    config: Mapping[str, Any]
    plan: QuantPlan
    context_length: int
    prefill_chunk: int
    bos_id: int | None
    stop_ids: Sequence[int]

    @classmethod
    def of(cls, checkpoint: Checkpoint, plan: QuantPlan, context_length: int, prefill_chunk: int) -> "ProgramSpec":
        """The program of a model; its chunk leaves room for one more token of the context."""
        return cls(
            config=checkpoint.config,
            plan=plan,
            context_length=context_length,
            prefill_chunk=min(prefill_chunk, context_length - 1) or 1,
            bos_id=checkpoint.tokenizer.bos_id,
            stop_ids=checkpoint.tokenizer.stop_ids,
        )

    def key(self) -> dict[str, Any]:
        """The spec as JSON data, for a cache key."""
        return {
            "config": {name: value for name, value in self.config.items() if name not in _WITHOUT_EFFECT},
            "plan": self.plan.to_json(),
            "context_length": self.context_length,
            "prefill_chunk": self.prefill_chunk,
        }


# Settings that no graph depends on: what the class is called, and how long the texts were that the model learned from
# (where the rotary embedding depends on that, it has a setting of its own).
_WITHOUT_EFFECT = ("architectures", "max_position_embeddings")
