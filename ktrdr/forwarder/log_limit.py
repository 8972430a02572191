"""A limit on log lines of one kind per minute, and the count of those left out. Logs nothing."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

MOST = 30
"""Lines of one kind in a minute; a program that connects now and then has fewer."""
MINUTE_S = 60.0


@dataclass
class _Minute:
    began_s: float
    written: int = 0
    left_out: int = 0
    texts: set[Hashable] = field(default_factory=set)


class LogLimit:
    """Counts lines by kind. A kind is a noun in the singular: "and 1 more refused connection".

    A minute begins with its first line and ends with `summaries`. Not thread-safe.
    """

    def __init__(self) -> None:
        self._minutes: dict[str, _Minute] = {}

    def writes(self, kind: str, now_s: float, *, once: Hashable = None) -> bool:
        """Whether to write one more line; with the same `once` only the first in a minute."""
        minute = self._minutes.setdefault(kind, _Minute(now_s))
        if minute.written >= MOST or (once is not None and once in minute.texts):
            minute.left_out += 1
            return False
        minute.written += 1
        minute.texts.add(once)
        return True

    def summaries(self, now_s: float) -> Iterator[str]:
        """A line for each kind whose minute is over and of which lines were left out."""
        for kind, minute in list(self._minutes.items()):
            if now_s - minute.began_s >= MINUTE_S:
                del self._minutes[kind]
                if minute.left_out:
                    some = kind if minute.left_out == 1 else f"{kind}s"
                    yield f"... and {minute.left_out:,} more {some} in the last minute"
