"""Throughput: estimates how long missing bars will take, from recent answers. Reads no clock."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import mul
from typing import NamedTuple

from ktrdr.market.timeframes import DAY_S, HOUR_S, MINUTE_S, Timeframe

_KEPT = 0.9
"""The weight of everything served before, relative to the newest answer."""
_COMPARED = 8
"""How many answers are compared together with their prediction."""
_REMEMBERED = 0.9
"""The weight of earlier prediction errors, relative to the newest ones."""
_LAST = 8
"""The quickest of this many answers shows the minimum time of a request."""
_LEAST_ANSWERS = 3
_LEAST_SHARE = 0.25
"""However old a request is, it takes at least this share of its usual time from now on."""
_INSTANT_S = 1e-3
"""Anything shorter counts as no time."""
_CHANCE = (0.01, 0.15, 0.15)
"""The prediction error of each model that may be chance, in one answer; less with more answers.

The first model has the least: it is preferred unless another has proved better.
"""
_PLAYED = 4000
"""How many requests are simulated; the time of the rest is computed from the rate."""
_SPREAD = ((10.0, 1.5), (60.0, 1.35), (300.0, 1.25))
"""Work of less than this many seconds → the factor within which the estimate is accurate."""
_LEAST_SPREAD = 1.15


class Eta(NamedTuple):
    """How long it will take, in seconds."""

    low: float
    likely: float
    high: float

    @property
    def words(self) -> str:
        """For a person: `about 2 to 3 min`."""
        return span_words(self.low, self.high)


class _Moment(NamedTuple):
    """A moment by two clocks, in seconds."""

    own: float
    """The time itself: right if requests do not slow each other down."""
    shared: float
    """Slows down with the number of requests served: right if they share capacity."""


@dataclass
class _Flight:
    """One request that was sent."""

    timeframe: Timeframe
    bars: int
    served_since: _Moment | None = None
    """When it began to be served; None: it is waiting."""


@dataclass(frozen=True)
class _Served:
    """How requests for one bar size were served; older requests weigh less, large ones more.

    A request for one bar takes as long as one for many: it shows nothing about the cost of a bar.
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
        """With one more request."""
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
        """How long a request for this many bars takes."""
        return max(min(self.quickest), bars * self.products / self.squares)


class _Costs:
    """What requests cost by one clock, and how wrong predictions were lately."""

    def __init__(self) -> None:
        self._served: dict[Timeframe, _Served] = {}
        self._off = 0.0
        self._predicted_s = self._took_s = 0.0
        self._counted = 0

    def learn(self, timeframe: Timeframe, bars: int, took_s: float) -> None:
        """A request for this many bars took this long."""
        known = self._served.get(timeframe)
        if known is not None:
            self._compare(known.takes_s(bars), took_s)
        self._served[timeframe] = (known or _Served()).with_one(took_s, bars)

    def _compare(self, predicted_s: float, took_s: float) -> None:
        self._predicted_s += predicted_s
        self._took_s += took_s
        self._counted += 1
        if self._counted == _COMPARED:
            self._off = _REMEMBERED * self._off + self._off_now
            self._predicted_s, self._took_s, self._counted = 0.0, 0.0, 0

    @property
    def off(self) -> float:
        """The prediction error over several answers, since that of a single one is chance."""
        return self._off + self._off_now * self._counted / _COMPARED

    @property
    def _off_now(self) -> float:
        predicted_s, took_s = max(self._predicted_s, _INSTANT_S), max(self._took_s, _INSTANT_S)
        return math.log(took_s / predicted_s) ** 2

    def size(self, timeframe: Timeframe) -> float:
        """How many bars a large request is for."""
        return self._usual(timeframe).size

    def takes_s(self, timeframe: Timeframe, bars: float) -> float:
        """How long a request for this many bars takes."""
        return self._usual(timeframe).takes_s(bars)

    def rest_s(self, flight: _Flight, age_s: float) -> float:
        """How much longer a request takes that has been served for a while."""
        takes_s = self.takes_s(flight.timeframe, flight.bars)
        return max(takes_s - age_s, _LEAST_SHARE * takes_s)

    def slower(self, flights: Iterable[tuple[_Flight, float]]) -> float:
        """How much slower requests will be than those answered so far, which were the quick ones.

        `flights`: requests being served, each with the time served so far.
        """
        ratios = [1.0] * round(sum(served.count for served in self._served.values()))
        for flight, age_s in flights:
            takes_s = self.takes_s(flight.timeframe, flight.bars)
            if takes_s > 0:
                ratios.append((age_s + self.rest_s(flight, age_s)) / takes_s)
        return sum(ratios) / len(ratios)

    def _usual(self, timeframe: Timeframe) -> _Served:
        """The costs of this bar size; of all sizes, if there are none."""
        if timeframe in self._served:
            return self._served[timeframe]
        return reduce(_Served.joined, self._served.values())


class Throughput:
    """Simulates the rest of the work from how requests were answered until now.

    As many as allowed are served at once, in the order sent; the number may grow with the answers.
    Three models: requests do not slow each other down; or they share capacity; or they are served
    one after the other. The better a model has predicted lately, the more it counts.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}
        self._own, self._shared, self._in_line = _Costs(), _Costs(), _Costs()
        self._now = _Moment(0.0, 0.0)
        self._answered_at = 0.0
        self._at_once = 1
        self._sizes: deque[int] = deque(maxlen=8)
        """How many could be served at once, at each of the last answers."""
        self._answers = 0
        self._began: float | None = None
        self._first_missing: dict[Timeframe, tuple[int, int]] = {}

    def sent(self, request: Hashable, timeframe: Timeframe, bars: int, now: float) -> None:
        """A request for this many missing bars was sent."""
        self.advance(now)
        self._flights[request] = _Flight(timeframe, bars)
        self._began = now if self._began is None else self._began
        self.advance(now)

    def allow(self, at_once: int) -> None:
        """`at_once` requests may be served at once now."""
        self._at_once = max(1, at_once)

    def answered(self, request: Hashable, at_once: int, now: float) -> None:
        """It was answered; `at_once` may be served at once now."""
        self.advance(now)
        flight = self._flights.pop(request, None)
        self.allow(at_once)
        self._sizes.append(self._at_once)
        if flight is not None and flight.bars > 0:
            since = flight.served_since or self._now
            self._own.learn(flight.timeframe, flight.bars, now - since.own)
            self._shared.learn(flight.timeframe, flight.bars, self._now.shared - since.shared)
            begun = max(since.own, self._answered_at)
            self._in_line.learn(flight.timeframe, flight.bars, now - begun)
            self._answered_at = now
            self._answers += 1
        self.advance(now)

    def ended(self, request: Hashable) -> None:
        """It failed, or was never sent."""
        self._flights.pop(request, None)

    def advance(self, now: float) -> None:
        """Let time pass, and let the next requests be served."""
        served = sum(flight.served_since is not None for flight in self._flights.values())
        passed_s = max(0.0, now - self._now.own)
        self._now = _Moment(now, self._now.shared + passed_s / max(1, served))
        for flight in islice(self._flights.values(), self._at_once):
            if flight.served_since is None:
                flight.served_since = self._now

    def idle(self) -> None:
        """There is nothing to do, or nothing can be done: the measurement begins again."""
        self._flights.clear()
        self._began, self._answers = None, 0

    def add_assessed(self, timeframe: Timeframe, bars: int) -> None:
        """A series was assessed for the first time, and is missing this many bars."""
        series, total = self._first_missing.get(timeframe, (0, 0))
        self._first_missing[timeframe] = series + 1, total + bars

    def left(
        self,
        missing: Mapping[Timeframe, int],
        unknown: Mapping[Timeframe, int],
        now: float,
    ) -> Eta | None:
        """How long this many bars of each size will take; None while that is unknown.

        `unknown`: series not assessed yet; assumed to be like the others.
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
        self.advance(now)
        likely = self._likely(bars)
        over_s = now - self._began
        spread = next((factor for most_s, factor in _SPREAD if over_s < most_s), _LEAST_SPREAD)
        return Eta(likely / spread, likely, likely * spread)

    def _likely(self, bars: Mapping[Timeframe, float]) -> float:
        """An average of the three models, weighted by how well each has predicted lately."""
        predicted = (
            (self._own.off, self._side_by_side(bars)),
            (self._shared.off, self._together(bars)),
            (self._in_line.off, self._one_by_one(bars)),
        )
        chances = [chance / self._answers for chance in _CHANCE]
        weights = [
            (off + chance) ** -2 for chance, (off, _) in zip(chances, predicted, strict=True)
        ]
        logs = [math.log(max(left_s, _INSTANT_S)) for _, left_s in predicted]
        return math.exp(sum(map(mul, weights, logs)) / sum(weights))

    def _side_by_side(self, bars: Mapping[Timeframe, float]) -> float:
        """Seconds until the last answer if requests do not slow each other down."""
        costs = self._own
        being_served = [(flight, self._now.own - since.own) for flight, since in self._served()]
        slower = costs.slower(being_served)
        served = [costs.rest_s(flight, age_s) for flight, age_s in being_served]
        more, rest_s = self._to_come(bars, costs)
        waiting = [costs.takes_s(flight.timeframe, flight.bars) for flight in self._waiting()]
        turns, end = deque(takes_s * slower for takes_s in (*waiting, *more)), 0.0
        heapq.heapify(served)
        at_once, growth = float(self._at_once), self._growth()
        while served or turns:
            while turns and len(served) < int(at_once):
                heapq.heappush(served, end + turns.popleft())
            end = heapq.heappop(served)
            at_once = min(at_once + growth, self._most)
        return end + slower * rest_s / max(1.0, at_once)

    def _together(self, bars: Mapping[Timeframe, float]) -> float:
        """The same if requests share capacity: as long as each alone, one after the other."""
        costs = self._shared
        served = [(flight, self._now.shared - since.shared) for flight, since in self._served()]
        waiting_s = sum(costs.takes_s(flight.timeframe, flight.bars) for flight in self._waiting())
        to_come_s = costs.slower(served) * (waiting_s + self._beyond_s(bars, costs))
        return sum(costs.rest_s(flight, age_s) for flight, age_s in served) + to_come_s

    def _one_by_one(self, bars: Mapping[Timeframe, float]) -> float:
        """The same if each request begins when the one before it was answered."""
        costs = self._in_line
        sent = [costs.takes_s(flight.timeframe, flight.bars) for flight in self._flights.values()]
        since_s = min(self._now.own - self._answered_at, sent[0] if sent else 0.0)
        return sum(sent) + self._beyond_s(bars, costs) - (1 - _LEAST_SHARE) * since_s

    def _served(self) -> Iterator[tuple[_Flight, _Moment]]:
        """The requests being served, and since when."""
        for flight in self._flights.values():
            if flight.served_since is not None:
                yield flight, flight.served_since

    def _waiting(self) -> Iterator[_Flight]:
        """The requests not being served yet."""
        return (flight for flight in self._flights.values() if flight.served_since is None)

    @property
    def _most(self) -> float:
        """How many can be served at once at most: no more than are sent."""
        return float(max(self._at_once, len(self._flights)))

    def _growth(self) -> float:
        """How many more were served at once after each of the last answers, on average."""
        if len(self._sizes) < 2:
            return 0.0
        return max(0.0, (self._sizes[-1] - self._sizes[0]) / (len(self._sizes) - 1))

    def _to_come(self, bars: Mapping[Timeframe, float], costs: _Costs) -> tuple[list[float], float]:
        """How long each unsent request takes, up to a limit; and the sum for the rest."""
        found: list[float] = []
        rest_s = 0.0
        for timeframe, left in self._not_sent(bars):
            size, count = costs.size(timeframe), _PLAYED - len(found)
            found += islice(_requests(timeframe, left, costs), count)
            rest_s += _in_all_s(timeframe, left - count * size, costs)
        return found, rest_s

    def _beyond_s(self, bars: Mapping[Timeframe, float], costs: _Costs) -> float:
        """How long all unsent requests take together."""
        return sum(_in_all_s(timeframe, left, costs) for timeframe, left in self._not_sent(bars))

    def _not_sent(self, bars: Mapping[Timeframe, float]) -> Iterator[tuple[Timeframe, float]]:
        """How many of these bars, by size, are not requested yet."""
        sent: dict[Timeframe, float] = {}
        for flight in self._flights.values():
            sent[flight.timeframe] = sent.get(flight.timeframe, 0.0) + flight.bars
        for timeframe, count in bars.items():
            yield timeframe, count - sent.get(timeframe, 0.0)


def _requests(timeframe: Timeframe, bars: float, costs: _Costs) -> Iterator[float]:
    """How long each of the requests for this many bars takes."""
    size = costs.size(timeframe)
    while bars >= 1:
        yield costs.takes_s(timeframe, min(bars, size))
        bars -= size


def _in_all_s(timeframe: Timeframe, bars: float, costs: _Costs) -> float:
    """How long the requests for this many bars take together."""
    size = costs.size(timeframe)
    whole, more = divmod(max(0.0, bars), size)
    last_s = costs.takes_s(timeframe, more) if more >= 1 else 0.0
    return whole * costs.takes_s(timeframe, size) + last_s


_UNITS = ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min"))


def span_words(low_s: float, high_s: float) -> str:
    """A length of time for a person: `about 20 to 40 s`, `about 2 to 3 min`."""
    if high_s < 10:
        return "a few seconds"
    for length_s, unit in _UNITS:
        if high_s >= 1.5 * length_s:
            return _about(low_s / length_s, high_s / length_s, unit)
    return _about(low_s / 10, high_s / 10, "s", step=10)


def _about(low: float, high: float, unit: str, step: int = 1) -> str:
    least, most = max(1, round(low)) * step, max(1, round(high)) * step
    return f"about {least} {unit}" if least == most else f"about {least} to {most} {unit}"
