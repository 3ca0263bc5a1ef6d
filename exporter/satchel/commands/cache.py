"""cache_info() and prune(): what the cache holds, and making room in it."""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from satchel.cache import Cache
from satchel.errors import UsageError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Kind:
    """What the cache holds of one stage's results. last_used: seconds since the epoch."""

    stage: str
    entries: int
    bytes: int
    last_used: float


def cache_info(cache: Cache) -> list[Kind]:
    """What is in the cache, the largest kind first."""
    kinds: dict[str, list[Any]] = defaultdict(lambda: [0, 0, 0.0])
    for entry in cache.entries():
        kind = kinds[entry.stage]
        kind[:] = kind[0] + 1, kind[1] + entry.bytes, max(kind[2], entry.used)
    return sorted((Kind(stage, *kind) for stage, kind in kinds.items()), key=lambda kind: -kind.bytes)


def prune(cache: Cache, older_than_days: float | None, max_size: str | None) -> dict[str, int]:
    """Removes what is too old or too much (see Cache.prune); returns how many entries and bytes. Raises UsageError."""
    if older_than_days is None and max_size is None:
        raise UsageError("Say what may go: --older-than DAYS, --max-size SIZE, or both.")
    limit = None if max_size is None else parse_size(max_size)
    removed = cache.prune(None if older_than_days is None else older_than_days * 24 * 3600, limit)
    return {"removed": len(removed), "bytes": sum(entry.bytes for entry in removed)}


def parse_size(text: str) -> int:
    """`10GB`, `500 MB` or `1.5g` in bytes, decimal units. Raises UsageError."""
    found = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?) *([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"{text!r} is no size. Examples: 500MB, 10GB.")
    return int(float(found[1]) * _UNITS[found[2].upper()])
