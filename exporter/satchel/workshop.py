"""What every stage works with."""

from dataclasses import dataclass

from satchel.cache import Cache
from satchel.console import Console
from satchel.tools import Tools


@dataclass(frozen=True)
class Workshop:
    """Where results are kept, external programs, and where progress shows."""

    cache: Cache
    tools: Tools
    console: Console

    @classmethod
    def default(cls, console: Console) -> "Workshop":
        """The user's cache and this machine's programs."""
        return cls(Cache.default(), Tools(), console)
