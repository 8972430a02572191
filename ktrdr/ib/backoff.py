"""The backoff between attempts to connect. Does not wait itself."""

from __future__ import annotations


class Backoff:
    """Growing delays; the last one repeats.

    After a connection that delivered data the first attempt is immediate.
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

    def begin_again(self) -> None:
        """A connection has lasted, though without data: begin with the first delay."""
        self._taken = 0

    def reset(self) -> None:
        """The connection delivers data: when it is lost, begin again with the first delay."""
        self._taken = 0
        self._is_proven = True
