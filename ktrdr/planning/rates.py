"""How long what is missing will take, learnt from what was answered, by bar size. No clock."""

from __future__ import annotations

from collections.abc import Mapping

from ktrdr.planning.timeframes import Timeframe

_NEWEST = 0.2
"""The weight of the newest answer, and of the newest stretch of time."""
_LEAST_S = 0.5
"""Shorter stretches of time are put together."""


class Rates:
    """Work is counted in seconds of IB's time: a minute bar costs less than a day's."""

    def __init__(self) -> None:
        self._cost: dict[Timeframe, float] = {}
        self._done = 0.0
        self._since: float | None = None
        self._per_s: float | None = None

    def answered(self, timeframe: Timeframe, bars: int, took_s: float) -> None:
        """An answer with new bars came after so many seconds."""
        if bars <= 0:
            return
        cost = took_s / bars
        known = self._cost.get(timeframe, cost)
        self._cost[timeframe] = known + _NEWEST * (cost - known)
        self._done += bars * self._cost[timeframe]

    def busy(self, now: float) -> None:
        """There is work at this time; called again and again while there is."""
        if self._since is None:
            self._since, self._done = now, 0.0
            return
        seconds = now - self._since
        if seconds < _LEAST_S or not self._done:
            return
        rate = self._done / seconds
        self._per_s = rate if self._per_s is None else self._per_s + _NEWEST * (rate - self._per_s)
        self._since, self._done = now, 0.0

    def idle(self) -> None:
        """There is no work, or none that can be done."""
        self._since = None

    def seconds(self, missing: Mapping[Timeframe, int]) -> float | None:
        """How long so many bars of each size will take; None while that cannot be known."""
        left = {timeframe: bars for timeframe, bars in missing.items() if bars}
        if not left:
            return 0.0
        if not self._per_s or not self._cost:
            return None
        usual = sum(self._cost.values()) / len(self._cost)
        work = sum(bars * self._cost.get(timeframe, usual) for timeframe, bars in left.items())
        return work / self._per_s
