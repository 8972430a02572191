"""Which requests will not be answered: others, sent when they were overdue, were. Sends nothing.

An outage of seconds swallows requests that are then never answered, and nothing tells that: no
error, no notice, and the gateway goes on answering what it is asked later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from ktrdr.market.bars_request import BarsRequest

_LEAST_S = 5.0
"""An answer is never overdue earlier."""
_SLOWER = 4.0
"""It is overdue after this multiple of the slowest recent answer of its kind."""
_KEPT, _FEW = 20, 3
"""How many times of answers of a kind are kept, and with how many the slowest of them is known."""
_SMALL, _UNKNOWN_S = 1024, 8.0
"""A request for at most so many bars is overdue after so long if few of its kind are known.

IB answers these within two seconds, 15,500 bars within 33 to 59 [observed].
"""
_APART_S = 30.0
"""Seconds between two probes for what is overdue: at most two a minute."""

Kind = Hashable


class AnswerTimes:
    """How long IB's history takes, by kinds of requests. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._took: dict[Kind, deque[float]] = {}
        self.newest_sent_at = float("-inf")
        """When the request was sent that was sent last of all those that IB has answered."""
        self._probe_wanted_at = float("-inf")
        """When a probe was last wanted, since an answer was overdue."""

    def __repr__(self) -> str:
        return f"<AnswerTimes of {len(self._took)} kinds>"

    def answered(self, request: Hashable, sent_at: float, now: float) -> None:
        """IB answered a request for history that was sent at that time."""
        self._took.setdefault(_kind(request), deque(maxlen=_KEPT)).append(now - sent_at)
        self.answered_one(sent_at)

    def answered_one(self, sent_at: float) -> None:
        """IB answered a request, of which the time means nothing for others: a probe."""
        self.newest_sent_at = max(self.newest_sent_at, sent_at)

    def patience_s(self, request: Hashable) -> float:
        """How long after it was sent the answer is overdue; infinite: nobody knows."""
        took = self._took.get(_kind(request), ())
        if len(took) >= _FEW:
            return max(_LEAST_S, _SLOWER * max(took))
        is_small = isinstance(request, BarsRequest) and request.bars_at_most <= _SMALL
        return _UNKNOWN_S if is_small else float("inf")

    def wants_probe(self, now: float) -> bool:
        """Whether to send a probe, as an answer is overdue; then not again for half a minute."""
        if now < self._probe_wanted_at + _APART_S:
            return False
        self._probe_wanted_at = now
        return True


class Overtaking:
    """Whether one request was overtaken, at most once: perhaps IB is merely slow with it."""

    def __init__(self, times: AnswerTimes, request: Hashable) -> None:
        self._times = times
        self._request = request
        self._overdue_at = float("inf")
        self._is_spent = False

    def sent(self, now: float) -> None:
        """The request is sent now, perhaps again."""
        is_spent = self._is_spent
        self._overdue_at = float("inf") if is_spent else now + self._times.patience_s(self._request)

    @property
    def overdue_at(self) -> float:
        """When the answer is overdue; infinite: never."""
        return self._overdue_at

    @property
    def has_happened(self) -> bool:
        """Whether a request that was sent when this one was overdue has been answered."""
        return self._times.newest_sent_at >= self._overdue_at

    def spend(self) -> None:
        """The request is sent again for that reason: never a second time."""
        self._is_spent = True


def _kind(request: Hashable) -> Kind:
    """Requests of a kind take about as long: bars by their length and about how many they are."""
    if isinstance(request, BarsRequest):
        return request.timeframe, request.bars_at_most.bit_length()
    return request[0] if isinstance(request, tuple) else request
