"""Who else has read the model, and how far both readings agree: `reading` of report.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reading:
    """Our reading of a source beside another one's. They agree, or there is none: a difference is an error.

    checked_by: program and version, e.g. "transformers 5.23.0"; None if nobody checked, and `reason` says why.
    logits_relative: the largest difference of a logit, relative to the largest logit. prompts: how many had the same
    ids. stop_ids: whether what ends an answer was compared. not_compared: what the other one can't judge, in words.
    """

    checked_by: str | None
    logits_relative: float | None = None
    prompts: int = 0
    stop_ids: bool = False
    not_compared: tuple[str, ...] = ()
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        if self.checked_by is None:
            return {"checked_by": None, "reason": self.reason}
        return {
            "checked_by": self.checked_by,
            "logits_relative": self.logits_relative,
            "prompts": self.prompts,
            "stop_ids": self.stop_ids,
            "not_compared": list(self.not_compared),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Reading":
        """What `to_dict` gave."""
        return cls(**{**data, "not_compared": tuple(data.get("not_compared", ()))})


def unchecked(reason: str) -> Reading:
    """Nobody else has read the model. reason: a clause without a full stop."""
    return Reading(None, reason=reason)
