"""Which larger bar each smaller bar belongs to, by the market's sessions. Aggregates nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from ktrdr.market.sessions import Int64Array, Schedule, expected, minute_of
from ktrdr.market.timeframes import DAY_S, MINUTE_S, Timeframe
from ktrdr.market.zones import find_zone

_FAR = 2**62


def larger_bars(
    schedule: Schedule, starts: Int64Array, larger: Timeframe, alignment: frozenset[int]
) -> tuple[Int64Array, Int64Array]:
    """For each bar the start of the larger bar that contains it, and the end of that bar.

    All in UTC seconds; `starts` ascend. As observed at IB, the first bar of a session begins with
    the session, others at multiples of their length in the exchange's wall-clock time; a daily bar
    is dated by the trading day. `alignment`: where larger bars have been seen to begin, as for
    `expected`; while it is empty, four-hour bars begin at multiples too. A bar outside all
    sessions is placed by the wall clock alone.
    """
    opens, closes, days = _sessions(schedule)
    place = np.searchsorted(opens, starts, side="right") - 1
    inside = (place >= 0) & (starts < closes[place])
    offsets = _offsets(schedule.zone, starts)
    if larger.is_daily:
        local_day = (starts + offsets) // DAY_S * DAY_S
        found = np.where(inside, days[place], local_day)
        last_close = dict(zip(days.tolist(), closes.tolist(), strict=True))
        ends = [last_close.get(day, day + DAY_S) for day in found.tolist()]
        return found, np.array(ends, dtype=np.int64)
    length = larger.length_s
    past = 0 if larger is Timeframe.H4 else MINUTE_S * minute_of(alignment)
    by_clock = (starts + offsets - past) // length * length - offsets + past
    if larger is Timeframe.H4 and alignment:
        by_clock = _four_hour_starts(schedule, starts, alignment, by_clock)
    begins: Int64Array = np.where(inside, np.maximum(by_clock, opens[place]), by_clock)
    over: Int64Array = np.where(inside, np.minimum(by_clock + length, closes[place]), _FAR)
    return begins, np.minimum(over, by_clock + length)


def _sessions(schedule: Schedule) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Opens, closes and days, preceded by an empty session before all times."""
    opens, closes, days, _ = schedule.columns
    return np.insert(opens, 0, -_FAR), np.insert(closes, 0, -_FAR), np.insert(days, 0, 0)


def _offsets(zone: str, starts: Int64Array) -> Int64Array:
    """Local time minus UTC, in seconds; looked up once per hour, within which it is constant."""
    local = find_zone(zone)
    hours, place = np.unique(starts // 3600, return_inverse=True)
    found = [
        datetime.fromtimestamp(hour * 3600, UTC).astimezone(local).utcoffset() or timedelta()
        for hour in hours.tolist()
    ]
    return np.array([int(f.total_seconds()) for f in found], dtype=np.int64)[place]


def _four_hour_starts(
    schedule: Schedule, starts: Int64Array, alignment: frozenset[int], otherwise: Int64Array
) -> Int64Array:
    """The starts of four-hour bars, at the minutes at which they have been seen to begin."""
    reach = Timeframe.H4.length_s
    if not len(starts):
        return otherwise
    first, last = int(starts[0]) - reach, int(starts[-1]) + 1
    grid = expected(schedule, Timeframe.H4, first, last, _FAR, alignment=alignment).starts
    if not len(grid):
        return otherwise
    place = np.searchsorted(grid, starts, side="right") - 1
    return np.where((place >= 0) & (starts - grid[place] < reach), grid[place], otherwise)
