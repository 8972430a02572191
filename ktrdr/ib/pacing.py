"""When the next request may be sent, and how many at once: IB's limits. Has no clock, never waits.

IB documents three rules (no identical request within 15 s, fewer than 6 for one contract in 2 s,
at most 60 in 10 min) for bars of 30 s or less and for head timestamps. For larger bars it
balances load without a documented number: here the number in flight grows while answers stay
quick, and shrinks when they do not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from ktrdr.market.bars_request import Priority

MOST_AT_ONCE = 50
"""Open history requests that IB allows (a 51st: error 322)."""
_FIRST_AT_ONCE = 32
_SPARE = 2
"""Requests reserved for the connection's own probes."""

IDENTICAL_S = 15.0
_SMALL_S, _SMALL_MOST = 600.0, 55
"""Requests under the rules for small bars in 600 s: a few less than IB's 60."""

_QUICK_S = 5.0
"""Seconds within which an answer is always quick.

IB slows many requests down to balance its load (TWS API, "Historical Data Limitations"); fewer at
once would be answered sooner, but fewer in all.
"""
_SLOWER = 2.0
"""Answers count as slow above this multiple of the usual time."""
_MEMORY = 0.2
"""The weight of the newest answer in the recent time."""
_FORGOTTEN_S = 600.0
"""In how many seconds slow answers become usual, for the most part."""
_MESSAGES_PER_S, _BURST = 42.0, 3
"""Messages per second evenly, and in one burst: 45 in the worst second, of IB's 50."""
_PAUSE_S, _PAUSE_MAX_S = 10.0, 30.0
"""Seconds without new requests after a "pacing violation": doubled while nothing is answered."""


class MessageRate:
    """A limit on all messages sent per second. Has no clock and does not wait.

    IB allows 50 (market data lines / 2 per second), and closes a connection that keeps exceeding
    it. The network may delay one burst so that the next one arrives with it: therefore at most one
    burst is sent, and then messages are evenly spaced.
    """

    def __init__(self, per_s: float = _MESSAGES_PER_S, burst: int = _BURST) -> None:
        self._per_s = per_s
        self._burst = burst
        self._debt = 0.0
        """Messages sent ahead of the even rate."""
        self._at = float("-inf")

    def delay_s(self, now: float) -> float:
        """Count a message; in how many seconds it may be sent. `now`: seconds of any one clock."""
        self._debt = max(self._debt - (now - self._at) * self._per_s, 0.0) + 1
        self._at = now
        return max(self._debt - self._burst, 0.0) / self._per_s


class Window:
    """How many requests may be in flight."""

    def __init__(self, first: float = _FIRST_AT_ONCE, most: float = MOST_AT_ONCE - _SPARE) -> None:
        self._size = first
        self.most = most
        """The largest number that `size` may become."""
        self._usual: dict[int, tuple[float, float]] = {}
        """Bit length of a number of bars → best seconds for answers of about that many bars, and
        when the last of them came."""
        self._slowness = 1.0
        """The recent time of answers as a multiple of the usual time."""
        self._shrunk_at = float("-inf")

    def __repr__(self) -> str:
        return f"Window({self.size})"

    @property
    def size(self) -> int:
        """The number of requests that may be in flight; at least one."""
        return max(1, int(self._size))

    def answered(self, took_s: float, bars: int, now: float) -> None:
        """Adjust to an answer: one more while answers are quick, fewer when they become slow."""
        took_s = max(took_s, _QUICK_S)
        usual, at = self._usual.get(bars.bit_length(), (took_s, now))
        # The usual time falls at once and rises slowly, so that a slow hour does not become usual.
        forgotten = 1 - math.exp((at - now) / _FORGOTTEN_S)
        usual = min(took_s, usual + forgotten * (took_s - usual))
        self._usual[bars.bit_length()] = (usual, now)
        self._slowness += _MEMORY * (took_s / usual - self._slowness)
        if self._slowness <= _SLOWER:
            self._size = min(self._size + 1, self.most)
        elif now - self._shrunk_at > took_s:  # once for all that were in flight together
            self._shrink(0.8, now)

    def failed(self, sent_at: float, now: float) -> None:
        """A request was not answered in time, or refused for pacing.

        It counts once for all that were in flight together, as when an outage swallows them.
        """
        if sent_at > self._shrunk_at:
            self._shrink(0.5, now)

    def _shrink(self, factor: float, now: float) -> None:
        self._size = max(1.0, self._size * factor)
        self._shrunk_at = now


@dataclass(frozen=True)
class QueuedRequest:
    """One request that waits for its turn."""

    request: Hashable
    priority: Priority
    symbol: str
    number: int
    """In order of arrival."""
    is_small: bool = False
    """It falls under the rules for small bars."""


class Pacer:
    """Decides which request may be sent, and when. Times are seconds of a monotonic clock."""

    def __init__(self, window: Window | None = None, identical_s: float = IDENTICAL_S) -> None:
        self._window = window or Window()
        self._identical_s = identical_s
        self._open: dict[Hashable, int] = {}
        self._sent: dict[Hashable, float] = {}
        self._small: deque[float] = deque()
        self._served: dict[str, int] = {}
        self._turns = 0
        self._paused_until = float("-inf")
        self.streams = 0
        """Streams that are open; each counts among the open requests (TWS API, "keepUpToDate")."""
        self._pauses = 0
        """How many pauses there were since bars were last answered."""

    def __repr__(self) -> str:
        return f"Pacer({self.open_requests} of {self._window.size} open)"

    @property
    def open_requests(self) -> int:
        """The number of requests sent that are neither answered nor given up."""
        return sum(self._open.values())

    @property
    def at_once(self) -> int:
        """How many may be open now; one after a violation, until bars are answered."""
        if self._pauses:
            return 1
        return max(1, int(min(self._window.size, self._window.most - self.streams)))

    def next(
        self, waiting: list[QueuedRequest], now: float
    ) -> tuple[QueuedRequest | None, float | None]:
        """The request that may be sent now; or None, and the seconds until the next check.

        None for the seconds: not before a request has ended. By priority; among equals by the
        symbol served longest ago, so that a symbol with many requests does not delay the others.
        """
        if self.open_requests >= self.at_once or not waiting:
            return None, None
        if now < self._paused_until:
            return None, self._paused_until - now
        soonest: float | None = None
        for queued in sorted(waiting, key=self._rank):
            delay_s = self._delay_s(queued, now)
            if delay_s <= 0:
                return queued, 0.0
            soonest = delay_s if soonest is None else min(soonest, delay_s)
        return None, soonest

    def begin(self, queued: QueuedRequest, now: float) -> None:
        """The request is sent now."""
        request = queued.request
        self._open[request] = self._open.get(request, 0) + 1
        self._sent = {r: t for r, t in self._sent.items() if t + self._identical_s > now}
        self._sent[request] = now
        self._turns += 1
        self._served[queued.symbol] = self._turns
        if queued.is_small:
            self._small.append(now)

    def end(self, queued: QueuedRequest, *, was_answered: bool = True) -> None:
        """A request has ended; if not `was_answered`, an identical one may be sent at once."""
        left = self._open.pop(queued.request) - 1
        if left:
            self._open[queued.request] = left
        if not was_answered:
            self.forget(queued)

    def forget(self, queued: QueuedRequest) -> None:
        """An identical request may be sent at once."""
        self._sent.pop(queued.request, None)

    def learn(self, took_s: float, bars: int, now: float) -> bool:
        """Adjust the window to an answer. True: it is the first one after a violation."""
        is_first = bool(self._pauses) and now - took_s >= self._paused_until  # it was sent since
        if is_first:
            self._pauses = 0
        self._window.answered(took_s, bars, now)
        return is_first

    def learn_failure(self, sent_at: float, now: float, *, was_paced: bool) -> None:
        """A request was not answered in time, or was a pacing violation (`was_paced`)."""
        self._window.failed(sent_at, now)
        if was_paced and now >= self._paused_until:  # once for all that were in flight together
            pause_s = min(_PAUSE_S * 2**self._pauses, _PAUSE_MAX_S)
            self._paused_until = now + pause_s
            self._pauses += 1

    def _rank(self, queued: QueuedRequest) -> tuple[int, int, int]:
        return queued.priority, self._served.get(queued.symbol, 0), queued.number

    def _delay_s(self, queued: QueuedRequest, now: float) -> float:
        delay_s = 0.0
        if (sent := self._sent.get(queued.request)) is not None:
            delay_s = sent + self._identical_s - now
        if queued.is_small:
            while self._small and self._small[0] <= now - _SMALL_S:
                self._small.popleft()
            if len(self._small) >= _SMALL_MOST:
                delay_s = max(delay_s, self._small[0] + _SMALL_S - now)
        return delay_s
