"""How long what is missing will take, by what the last minute brought. No clock of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ktrdr.planning.timeframes import DAY_S, HOUR_S, MINUTE_S, Timeframe

WINDOW_S = 60.0
"""What is older says nothing about the rate."""
_APART_S = 0.5
"""Looks that are nearer than this are one."""
_NEWEST = 0.2
"""The weight of the newest answer in what a bar costs."""
_LEAST_ANSWERS = 3
_SPREAD = ((10.0, 1.5), (30.0, 1.35), (WINDOW_S, 1.25))
"""After so many seconds of work the time left is known to such a factor; in the end to 1.15."""
_LEAST_SPREAD = 1.15


class Eta(NamedTuple):
    """How long it will take, in seconds, as far as that is known."""

    low: float
    likely: float
    high: float

    @property
    def words(self) -> str:
        """As a person would say it: `about 2 to 3 min`."""
        return span_words(self.low, self.high)


class Throughput:
    """Work is counted in seconds of a request's time: a minute bar costs less than a day's.

    What is under way counts by its age, so that the rate is right while answers come in waves.
    """

    def __init__(self) -> None:
        self._cost: dict[Timeframe, float] = {}
        self._done: dict[Timeframe, float] = {}
        self._answers = 0
        self._looks: deque[tuple[float, dict[Timeframe, float]]] = deque()
        self._credit: dict[Timeframe, float] = {}
        self._first_missing: dict[Timeframe, tuple[int, int]] = {}

    @property
    def is_measuring(self) -> bool:
        """Work has begun, and not ended."""
        return bool(self._looks)

    def answered(self, timeframe: Timeframe, bars: int, took_s: float) -> None:
        """An answer came after so many seconds, and so many bars are missing no more."""
        if bars <= 0:
            return
        cost = took_s / bars
        known = self._cost.get(timeframe, cost)
        self._cost[timeframe] = known + _NEWEST * (cost - known)
        self._done[timeframe] = self._done.get(timeframe, 0.0) + bars
        self._answers += 1

    def look(self, now: float, under_way: Iterable[tuple[Timeframe, int, float]]) -> None:
        """There is work at this time: bars that are asked for, and since how many seconds."""
        self._credit = {}
        for timeframe, bars, age_s in under_way:
            cost = self._cost.get(timeframe)
            done = min(bars, age_s / cost) if cost else 0.0
            self._credit[timeframe] = self._credit.get(timeframe, 0.0) + done
        if self._looks and now - self._looks[-1][0] < _APART_S:
            return
        if not self._looks:
            self._answers = 0
        self._looks.append((now, self._so_far()))
        while len(self._looks) > 2 and self._looks[1][0] <= now - WINDOW_S:
            self._looks.popleft()

    def idle(self) -> None:
        """There is no work, or none that can be done: what comes after it begins anew."""
        self._looks.clear()
        self._credit = {}

    def found(self, timeframe: Timeframe, bars: int) -> None:
        """So many bars a series lacked when it was first looked at."""
        series, total = self._first_missing.get(timeframe, (0, 0))
        self._first_missing[timeframe] = series + 1, total + bars

    def left(
        self, missing: Mapping[Timeframe, int], unknown: Mapping[Timeframe, int] | None = None
    ) -> Eta | None:
        """How long so many bars of each size will take; None while that cannot be known.

        `unknown`: series of which nobody has looked yet what they lack; as others do, it seems.
        """
        bars = {timeframe: float(count) for timeframe, count in missing.items() if count}
        for timeframe, series in (unknown or {}).items():
            known, total = self._first_missing.get(timeframe, (0, 0))
            if series and not known:
                return None
            bars[timeframe] = bars.get(timeframe, 0.0) + (series * total / known if series else 0)
        if not any(bars.values()):
            return Eta(0.0, 0.0, 0.0)
        per_s, over_s = self._rate()
        if per_s <= 0 or self._answers < _LEAST_ANSWERS:
            return None
        work = max(0.0, self._work(bars) - self._work(self._credit))
        likely = work / per_s
        spread = next((factor for most_s, factor in _SPREAD if over_s < most_s), _LEAST_SPREAD)
        return Eta(likely / spread, likely, likely * spread)

    def _so_far(self) -> dict[Timeframe, float]:
        sizes = self._done.keys() | self._credit.keys()
        return {t: self._done.get(t, 0.0) + self._credit.get(t, 0.0) for t in sizes}

    def _rate(self) -> tuple[float, float]:
        """Work done in a second, and over how long that was seen."""
        if not self._looks:
            return 0.0, 0.0
        (begin, before), (end, after) = self._looks[0], self._looks[-1]
        if end <= begin:
            return 0.0, 0.0
        done = {t: bars - before.get(t, 0.0) for t, bars in after.items()}
        return self._work(done) / (end - begin), end - begin

    def _work(self, bars: Mapping[Timeframe, float]) -> float:
        """What they cost; a size that was never answered, as the others on average."""
        usual = sum(self._cost.values()) / len(self._cost) if self._cost else 0.0
        return sum(count * self._cost.get(t, usual) for t, count in bars.items())


_UNITS = ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min"))


def span_words(low_s: float, high_s: float) -> str:
    """A span of time as a person would say it: `about 20 to 40 s`, `about 2 to 3 min`."""
    if high_s < 10:
        return "a few seconds"
    for length_s, unit in _UNITS:
        if high_s >= 1.5 * length_s:
            return _about(low_s / length_s, high_s / length_s, unit)
    return _about(low_s / 10, high_s / 10, "s", step=10)


def _about(low: float, high: float, unit: str, step: int = 1) -> str:
    least, most = max(1, round(low)) * step, max(1, round(high)) * step
    return f"about {least} {unit}" if least == most else f"about {least} to {most} {unit}"
