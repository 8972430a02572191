"""When the next request may go, and how many at once. Holds no clock and waits for nothing."""

from __future__ import annotations

from collections.abc import Hashable

AT_ONCE = 8
"""Open history requests. IB allows 50 (a 51st: error 322); few keep it quick for other clients."""

IDENTICAL_S = 15.0
"""IB refuses an identical request within 15 s for bars of 30 s or less; kept for all."""


class Pacer:
    """Says when a request may go. Times are seconds of any clock that only moves forward."""

    def __init__(self, at_once: int = AT_ONCE, identical_s: float = IDENTICAL_S) -> None:
        self._at_once = at_once
        self._identical_s = identical_s
        self._open = 0
        self._sent: dict[Hashable, float] = {}

    def __repr__(self) -> str:
        return f"Pacer({self._open} of {self._at_once} open)"

    @property
    def open_requests(self) -> int:
        """Sent, and neither answered nor given up."""
        return self._open

    def delay_s(self, request: Hashable, now: float) -> float | None:
        """Seconds until this request may go; None: not before another one has ended."""
        if self._open >= self._at_once:
            return None
        sent = self._sent.get(request)
        return 0.0 if sent is None else max(0.0, sent + self._identical_s - now)

    def begin(self, request: Hashable, now: float) -> None:
        """The request goes out now."""
        self._open += 1
        self._sent = {r: t for r, t in self._sent.items() if t + self._identical_s > now}
        self._sent[request] = now

    def end(self, request: Hashable, *, was_answered: bool = True) -> None:
        """A request was answered or given up; otherwise it may be asked again at once."""
        self._open -= 1
        if not was_answered:
            self._sent.pop(request, None)
