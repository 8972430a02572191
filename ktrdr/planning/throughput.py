"""How long what is missing will take, by how requests were served lately. No clock of its own."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from typing import NamedTuple

from ktrdr.planning.timeframes import DAY_S, HOUR_S, MINUTE_S, Timeframe

_KEPT = 0.9
"""The weight of all that was served before, beside the newest answer's."""
_LAST = 8
"""Answers whose quickest shows how long a request takes at the least."""
_LEAST_ANSWERS = 3
_LEAST_SHARE = 0.25
"""So much of its usual time a request takes at least from now on, however long it has taken."""
_PLAYED = 4000
"""Requests that are played through; of more the rest counts by the rate."""
_SPREAD = ((10.0, 1.5), (60.0, 1.35), (300.0, 1.25))
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


@dataclass
class _Flight:
    """One request that was sent."""

    timeframe: Timeframe
    bars: int
    served_since: float | None = None
    """When its turn came; None: it waits for it."""


@dataclass(frozen=True)
class _Served:
    """How requests of one size of bars were served; the older ones count less, the large ones more.

    A request for one bar takes as long as one for many: it says nothing of what a bar costs.
    """

    count: float = 0.0
    bars: float = 0.0
    squares: float = 0.0
    """Of the bars of each."""
    products: float = 0.0
    """Of bars and seconds of each."""
    quickest: tuple[float, ...] = ()
    """Seconds of the last ones."""

    def with_one(self, took_s: float, bars: int) -> _Served:
        """The same, and one more."""
        return _Served(
            _KEPT * self.count + 1,
            _KEPT * self.bars + bars,
            _KEPT * self.squares + bars * bars,
            _KEPT * self.products + bars * took_s,
            (*self.quickest, took_s)[-_LAST:],
        )

    def joined(self, other: _Served) -> _Served:
        """Both together."""
        return _Served(
            self.count + other.count,
            self.bars + other.bars,
            self.squares + other.squares,
            self.products + other.products,
            self.quickest + other.quickest,
        )

    @property
    def size(self) -> float:
        """How many bars a large request is for."""
        return max(1.0, self.squares / self.bars)

    def takes_s(self, bars: float) -> float:
        """How long a request for so many bars takes."""
        return max(min(self.quickest), bars * self.products / self.squares)


class Throughput:
    """Plays the rest of the work through: so many requests at once, each as long as others took.

    In the order of their sending as many are served as may be at once; that may grow with the
    answers.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}
        self._served: dict[Timeframe, _Served] = {}
        self._at_once = 1
        self._sizes: deque[int] = deque(maxlen=8)
        """How many might be served at once, at each of the last answers."""
        self._answers = 0
        self._began: float | None = None
        self._first_missing: dict[Timeframe, tuple[int, int]] = {}

    def sent(self, request: Hashable, timeframe: Timeframe, bars: int, now: float) -> None:
        """A request for so many missing bars was sent."""
        self._flights[request] = _Flight(timeframe, bars)
        self._began = now if self._began is None else self._began
        self.look(now)

    def allow(self, at_once: int) -> None:
        """So many may be served at once now."""
        self._at_once = max(1, at_once)

    def answered(self, request: Hashable, at_once: int, now: float) -> None:
        """It was answered; so many may be served at once now."""
        self.look(now)
        flight = self._flights.pop(request, None)
        self.allow(at_once)
        self._sizes.append(self._at_once)
        if flight is not None and flight.bars > 0:
            since = now if flight.served_since is None else flight.served_since
            before = self._served.get(flight.timeframe, _Served())
            self._served[flight.timeframe] = before.with_one(now - since, flight.bars)
            self._answers += 1
        self.look(now)

    def ended(self, request: Hashable) -> None:
        """It failed, or was not asked at all."""
        self._flights.pop(request, None)

    def look(self, now: float) -> None:
        """Notice whose turn has come."""
        for flight in islice(self._flights.values(), self._at_once):
            if flight.served_since is None:
                flight.served_since = now

    def idle(self) -> None:
        """There is no work, or none that can be done: what comes after it begins anew."""
        self._flights.clear()
        self._began, self._answers = None, 0

    def found(self, timeframe: Timeframe, bars: int) -> None:
        """So many bars a series lacked when it was first looked at."""
        series, total = self._first_missing.get(timeframe, (0, 0))
        self._first_missing[timeframe] = series + 1, total + bars

    def left(
        self,
        missing: Mapping[Timeframe, int],
        unknown: Mapping[Timeframe, int],
        now: float,
    ) -> Eta | None:
        """How long so many bars of each size will take; None while that cannot be known.

        `unknown`: series of which nobody has looked yet what they lack; as others do, it seems.
        """
        bars: dict[Timeframe, float] = {t: float(count) for t, count in missing.items() if count}
        for timeframe, series in unknown.items():
            known, total = self._first_missing.get(timeframe, (0, 0))
            if series and not known:
                return None
            bars[timeframe] = bars.get(timeframe, 0.0) + (series * total / known if series else 0)
        if not any(bars.values()):
            return Eta(0.0, 0.0, 0.0)
        if self._began is None or self._answers < _LEAST_ANSWERS:
            return None
        likely = self._played(bars, now)
        over_s = now - self._began
        spread = next((factor for most_s, factor in _SPREAD if over_s < most_s), _LEAST_SPREAD)
        return Eta(likely / spread, likely, likely * spread)

    def _played(self, bars: Mapping[Timeframe, float], now: float) -> float:
        """Seconds until the last request is answered."""
        served = [
            self._rest_s(flight, now - since)
            for flight in self._flights.values()
            if (since := flight.served_since) is not None
        ]
        waiting = [
            self._takes_s(flight.timeframe, flight.bars)
            for flight in self._flights.values()
            if flight.served_since is None
        ]
        more, rest_s = self._to_come(bars)
        slower = self._slower(now)
        waiting = [takes_s * slower for takes_s in (*waiting, *more)]
        heapq.heapify(served)
        turns, end = deque(waiting), 0.0
        at_once, growth = float(self._at_once), self._growth()
        while served or turns:
            while turns and len(served) < int(at_once):
                heapq.heappush(served, end + turns.popleft())
            end = heapq.heappop(served)
            at_once = min(at_once + growth, self._most)
        return end + slower * rest_s / max(1.0, at_once)

    def _rest_s(self, flight: _Flight, age_s: float) -> float:
        """How long a request takes on that has been served for a while."""
        takes_s = self._takes_s(flight.timeframe, flight.bars)
        return max(takes_s - age_s, _LEAST_SHARE * takes_s)

    def _slower(self, now: float) -> float:
        """How much slower all are than those that were answered, which are the quick ones."""
        ratios = [1.0] * round(sum(served.count for served in self._served.values()))
        for flight in self._flights.values():
            takes_s = self._takes_s(flight.timeframe, flight.bars)
            if (since := flight.served_since) is not None and takes_s > 0:
                ratios.append((now - since + self._rest_s(flight, now - since)) / takes_s)
        return sum(ratios) / len(ratios)

    @property
    def _most(self) -> float:
        """More are never served at once than are sent."""
        return float(max(self._at_once, len(self._flights)))

    def _growth(self) -> float:
        """How many more are served at once after each answer, as it was lately."""
        if len(self._sizes) < 2:
            return 0.0
        return max(0.0, (self._sizes[-1] - self._sizes[0]) / (len(self._sizes) - 1))

    def _to_come(self, bars: Mapping[Timeframe, float]) -> tuple[list[float], float]:
        """How long each request takes that was not sent yet; and what there is beyond, in all."""
        sent: dict[Timeframe, float] = {}
        for flight in self._flights.values():
            sent[flight.timeframe] = sent.get(flight.timeframe, 0.0) + flight.bars
        found: list[float] = []
        rest_s = 0.0
        for timeframe, count in bars.items():
            left = count - sent.get(timeframe, 0.0)
            for takes_s in self._requests(timeframe, left):
                if len(found) < _PLAYED:
                    found.append(takes_s)
                else:
                    rest_s += takes_s
        return found, rest_s

    def _requests(self, timeframe: Timeframe, bars: float) -> Iterator[float]:
        """How long each request takes of those that so many bars are asked for with."""
        size = self._usual(timeframe).size
        while bars >= 1:
            yield self._takes_s(timeframe, min(bars, size))
            bars -= size

    def _takes_s(self, timeframe: Timeframe, bars: float) -> float:
        return self._usual(timeframe).takes_s(bars)

    def _usual(self, timeframe: Timeframe) -> _Served:
        """What was served of this size; of one that never was, as of all."""
        if timeframe in self._served:
            return self._served[timeframe]
        return reduce(_Served.joined, self._served.values())


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
