"""Turns gaps into the fewest requests that IB answers, in IB's terms. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ktrdr.completeness.gaps import Gap
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import Instrument
from ktrdr.market.timeframes import DAY_S, HOUR_S, Timeframe

_LENGTH_DAYS = {  # shortest, at first, longest
    Timeframe.M1: (1, 5, 30),
    Timeframe.M5: (2, 31, 120),
    Timeframe.M15: (5, 90, 360),
    Timeframe.M30: (10, 90, 360),
    Timeframe.H1: (20, 180, 720),
    Timeframe.H4: (60, 365, 1460),
    Timeframe.D1: (365, 20 * 365, 20 * 365),
}
"""Calendar days in one request, at first well below what IB answered within a minute.

For a market that trades around the clock, as the number of bars is what counts.
"""
_REGULAR_HOURS = 2.5
"""How much longer a request may be for stocks in regular hours: they have a quarter of the bars."""

_QUICK_S, _SLOW_S = 10.0, 30.0
"""An answer faster than this allows a longer request, a slower one calls for a shorter one."""
_GROWTH = 1.5
_GROWTH_MOST, _MANY_BARS = 6.0, 1000
"""How much longer the next request is at most, if the answer had at least this many bars.

Then it grows in proportion to how quick the answer was. One without bars shows nothing about that.
"""


class RequestLengths:
    """How many days one request may cover, by bar size, as learnt from IB's answers.

    IB answers longer requests than it documents. Where each request is slow, longer ones fill deep
    history in two thirds of the time (`scripts/bench lengths`).
    """

    def __init__(self, learnt: Mapping[str, float] | None = None) -> None:
        """`learnt`: an earlier value of `days`; unknown bar sizes are ignored."""
        known = learnt or {}
        self._days = {
            timeframe: min(max(known.get(timeframe.value, first), shortest), longest)
            for timeframe, (shortest, first, longest) in _LENGTH_DAYS.items()
        }
        self._least_s = 0.0
        """How long the quickest answer took; 0: there was none yet."""
        self._measured = {timeframe for timeframe in _LENGTH_DAYS if timeframe.value in known}

    def are_measured(self, timeframe: Timeframe) -> bool:
        """An answer with many bars of this size has shown how long one takes."""
        return timeframe in self._measured

    @property
    def days(self) -> dict[str, float]:
        """Timeframe → days."""
        return {timeframe.value: days for timeframe, days in self._days.items()}

    def seconds(self, timeframe: Timeframe, instrument: Instrument) -> int:
        """The length of the longest request for bars of this size."""
        return int(self._days[timeframe] * DAY_S * _sparseness(timeframe, instrument))

    def answered(self, request: BarsRequest, took_s: float, bars: int = 0) -> bool:
        """Learn from an answer, with this many bars or none. True: a length has changed."""
        longest = self.seconds(request.timeframe, request.instrument)
        if bars >= _MANY_BARS:
            self._measured.add(request.timeframe)
        whole_s = self._whole_s(request, took_s, bars)
        if took_s > _SLOW_S and self._can_be_cut(request):
            return self._change(request.timeframe, _full_days(request) / _GROWTH)
        if whole_s < _QUICK_S and request.end - request.start >= 0.8 * longest:
            growth = _GROWTH
            if bars >= _MANY_BARS:
                growth = min(max(_QUICK_S / 2 / max(whole_s, 0.1), _GROWTH), _GROWTH_MOST)
            return self._change(request.timeframe, self._days[request.timeframe] * growth, up=True)
        return False

    def _whole_s(self, request: BarsRequest, took_s: float, bars: int) -> float:
        """How long the answer would take in a market without pauses, which has more bars.

        What the quickest answer took is not due to bars; unknown, that is nothing.
        """
        least_s, self._least_s = self._least_s, min(took_s, self._least_s or took_s)
        if not bars or not (least_s or bars >= _MANY_BARS):
            return took_s
        full = _full_days(request) * DAY_S / request.timeframe.length_s
        return least_s + max(took_s - least_s, 0.0) * max(full / bars, 1.0)

    def failed(self, request: BarsRequest) -> bool:
        """Learn from a request that was not answered in time. True: a length has changed."""
        if not self._can_be_cut(request):
            return False
        return self._change(request.timeframe, _full_days(request) / 2)

    @staticmethod
    def _can_be_cut(request: BarsRequest) -> bool:
        """It is longer than the minimum; a shorter one is slow for another reason."""
        return _full_days(request) > _LENGTH_DAYS[request.timeframe][0]

    def _change(self, timeframe: Timeframe, days: float, *, up: bool = False) -> bool:
        shortest, _, longest = _LENGTH_DAYS[timeframe]
        before = self._days[timeframe]
        bounded = min(max(days, shortest), longest)
        if not up:
            bounded = min(bounded, before)
        self._days[timeframe] = bounded
        return bounded != before


def _sparseness(timeframe: Timeframe, instrument: Instrument) -> float:
    """How much longer a request may be than in a market without pauses, for as many bars."""
    is_sparse = instrument.sec_type == "STK" and not instrument.extended_hours
    return _REGULAR_HOURS if is_sparse and timeframe.length_s <= HOUR_S else 1.0


def _full_days(request: BarsRequest) -> float:
    """The days of a market without pauses with as many bars."""
    sparseness = _sparseness(request.timeframe, request.instrument)
    return (request.end - request.start) / DAY_S / sparseness


def outside(gaps: Iterable[Gap], intervals: Iterable[tuple[int, int]], length_s: int) -> list[Gap]:
    """What of these gaps lies in none of the intervals `[start, end)`; `length_s` is a bar's.

    How many bars the parts have is not counted anew.
    """
    ordered, left = sorted(intervals), list[Gap]()
    for gap in gaps:
        first = gap.first
        for start, end in ordered:
            if first < end and start <= gap.last:
                if first <= start - length_s:
                    left.append(replace(gap, first=first, last=start - length_s))
                first = max(first, end)
        if first <= gap.last:
            left.append(gap if first == gap.first else replace(gap, first=first))
    return sorted(left, key=lambda gap: gap.first)


def plan(
    gaps: Iterable[Gap],
    instrument: Instrument,
    timeframe: Timeframe,
    lengths: RequestLengths | None = None,
) -> list[BarsRequest]:
    """The fewest requests that cover the gaps, newest first, each within the limit of its bar size.

    A request reaches from the newest uncovered bar as far back as the limit allows, and begins
    with the oldest missing bar in there: the bars in between cost little, since IB sends
    thousands in a second, and save a request. What cannot be paged is one request.
    """
    longest = (lengths or RequestLengths()).seconds(timeframe, instrument)
    missing = sorted(gaps, key=lambda g: g.last)
    if missing and not instrument.can_be_paged:
        last = missing[-1].last + timeframe.length_s
        first = min(gap.first for gap in missing)
        return [BarsRequest(instrument, timeframe, first, last)]
    requests: list[BarsRequest] = []
    while missing:
        end = missing[-1].last + timeframe.length_s
        begin = end - longest
        first = end
        while missing and missing[-1].last >= begin:
            gap = missing.pop()
            first = min(first, max(gap.first, begin))
            if gap.first < begin:  # its older part is for the next request
                rest = Gap(gap.first, begin - timeframe.length_s, gap.bars, gap.reason)
                missing.append(rest)
                break
        requests.append(BarsRequest(instrument, timeframe, first, end))
    return requests
