"""The backoff between attempts to connect. Waits for nothing itself."""

from __future__ import annotations


class Backoff:
    """Delays that grow; the last one repeats.

    After a connection that has proven itself the first attempt is immediate.
    """

    def __init__(self, delays_s: tuple[float, ...]) -> None:
        self._delays_s = delays_s
        self._taken = 0
        self._is_proven = False

    def __repr__(self) -> str:
        return f"Backoff(step {self._taken} of {self._delays_s})"

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        if self._is_proven:
            self._is_proven = False
            return 0.0
        delay = self._delays_s[min(self._taken, len(self._delays_s) - 1)]
        self._taken += 1
        return delay

    def reset(self) -> None:
        """The connection is a good one: when it is lost, begin again."""
        self._taken = 0
        self._is_proven = True
