"""Bars as columns, IB's bar sizes, and the aggregation of small bars into large ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from ktrdr.sim.market.sessions import DAY_S, HOUR_S, MINUTE_S, Int64Array, Sessions

FloatArray = npt.NDArray[np.float64]


WEEK_S, MONTH_S = 7 * DAY_S, 31 * DAY_S


@dataclass(frozen=True)
class BarSize:
    """A bar length under IB's name for it (TWS API, "Historical Bar Sizes")."""

    name: str
    length_s: int

    @property
    def is_daily(self) -> bool:
        """True for bars that are dated by a trading day: days, weeks and months."""
        return self.length_s >= DAY_S

    @property
    def is_longer_than_a_day(self) -> bool:
        """True for weeks and months."""
        return self.length_s > DAY_S


ONE_DAY = BarSize("1 day", DAY_S)
BAR_SIZES = {
    size.name: size
    for size in (
        *(BarSize(f"{n} secs", n) for n in (1, 5, 10, 15, 30)),
        BarSize("1 min", MINUTE_S),
        *(BarSize(f"{n} mins", n * MINUTE_S) for n in (2, 3, 5, 10, 15, 20, 30)),
        BarSize("1 hour", HOUR_S),
        *(BarSize(f"{n} hours", n * HOUR_S) for n in (2, 3, 4, 8)),
        ONE_DAY,
        BarSize("1 week", WEEK_S),
        BarSize("1 month", MONTH_S),
    )
}
"""IB's sizes by the names in its documentation."""

BAR_SIZE_ALIASES = {"1 sec": "1 secs", "1W": "1 week", "1M": "1 month"}
"""Other spellings, from IB's error message or its clients."""


class Alignment(Enum):
    """Where bars of 2 to 8 hours begin, which IB does not document. A session's open begins one.

    Smaller bars begin at multiples on the exchange's clock, as observed for hours of US stocks
    (09:30, 10:00, 11:00).
    """

    WALL_CLOCK = "wall-clock"
    """At multiples of their length on the exchange's clock."""
    SESSION_OPEN = "session-open"
    """At multiples counted from the session's open."""
    UTC = "utc"
    """At multiples of their length in UTC."""


@dataclass(frozen=True)
class Bars:
    """Columns of equal length, ascending. `start` and `end` in UTC seconds, `[start, end)`.

    A daily bar's `start` is its trading day at 00:00 UTC, its `end` a day later; a week's and a
    month's are those of its last trading day, by which IB dates them.
    """

    start: Int64Array
    end: Int64Array
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: Int64Array

    def __len__(self) -> int:
        return len(self.start)

    def only(self, chosen: npt.NDArray[np.bool_]) -> Bars:
        """The bars at which `chosen` is true."""
        return Bars(
            self.start[chosen],
            self.end[chosen],
            self.open[chosen],
            self.high[chosen],
            self.low[chosen],
            self.close[chosen],
            self.volume[chosen],
        )

    def each(self) -> Iterator[Bars]:
        """The bars one by one."""
        place = np.arange(len(self))
        return (self.only(place == n) for n in range(len(self)))

    def followed_by(self, later: Bars) -> Bars:
        """These bars, then the later ones."""
        return Bars(
            np.concatenate([self.start, later.start]),
            np.concatenate([self.end, later.end]),
            np.concatenate([self.open, later.open]),
            np.concatenate([self.high, later.high]),
            np.concatenate([self.low, later.low]),
            np.concatenate([self.close, later.close]),
            np.concatenate([self.volume, later.volume]),
        )


def floor(
    time_s: Int64Array,
    index: Int64Array,
    sessions: Sessions,
    size: BarSize,
    alignment: Alignment = Alignment.WALL_CLOCK,
    shift_s: int = 0,
) -> Int64Array:
    """The start of the intraday bar that contains each time; `index`: the time's session.

    `shift_s`: bars longer than this begin this many seconds later, except a session's first.
    """
    opens = sessions.open[index]
    origin = -sessions.offset[index]
    if size.length_s > HOUR_S and alignment is Alignment.SESSION_OPEN:
        origin = opens
    elif size.length_s > HOUR_S and alignment is Alignment.UTC:
        origin = np.zeros_like(opens)
    if shift_s < size.length_s:
        origin = origin + shift_s
    return np.maximum(time_s - (time_s - origin) % size.length_s, opens)


def aggregate(
    small: Bars,
    sessions: Sessions,
    size: BarSize,
    alignment: Alignment = Alignment.WALL_CLOCK,
    *,
    averaged: bool = False,
    shift_s: int = 0,
) -> Bars:
    """Exact aggregates of up to a day: a bar never spans two sessions.

    Every small bar must start inside a session. `averaged`: as in `sums`; `shift_s`: as in `floor`.
    """
    if not len(small):
        return small
    index = sessions.index_of(small.start)
    if size.is_daily:
        starts = sessions.day[index] * DAY_S
    else:
        starts = floor(small.start, index, sessions, size, alignment, shift_s)
    found = sums(small, starts, averaged=averaged)
    return replace(found, end=found.start + DAY_S) if size.is_daily else found


def sums(small: Bars, group: Int64Array, *, averaged: bool = False) -> Bars:
    """One bar for each run of equal `group`, which becomes its start.

    First open, last close, extremes, sum of volumes (-1 stays -1). `averaged`: opens and closes
    are averages over time, so the results are averages of these (BID_ASK).
    """
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    last = np.r_[first[1:], len(group)] - 1
    opens, closes = small.open[first], small.close[last]
    if averaged:
        count = last - first + 1
        opens, closes = (
            np.round(np.add.reduceat(side, first) / count, 8) for side in (small.open, small.close)
        )
    return Bars(
        group[first],
        small.end[last],
        opens,
        np.maximum.reduceat(small.high, first),
        np.minimum.reduceat(small.low, first),
        closes,
        np.where(small.volume[first] < 0, -1, np.add.reduceat(small.volume, first)),
    )


def period_of(day: Int64Array, size: BarSize) -> Int64Array:
    """The number of the week, which begins on Monday, or of the month of each day."""
    if size.length_s == WEEK_S:
        return (day + 3) // 7
    return day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def first_day(period: int, size: BarSize) -> int:
    """The first day of a week or month, as days since 1970-01-01."""
    if size.length_s == WEEK_S:
        return period * 7 - 3
    return int(np.datetime64(period, "M").astype("datetime64[D]").astype(np.int64))


def periods(days: Bars, last_days: Int64Array, size: BarSize, *, averaged: bool = False) -> Bars:
    """Weeks or months from days; `last_days`: the trading days that may end one, ascending."""
    if not len(days):
        return days
    group = period_of(days.start // DAY_S, size)
    ends = last_days[np.searchsorted(period_of(last_days, size), group, side="right") - 1]
    found = sums(days, ends * DAY_S, averaged=averaged)
    return replace(found, end=found.start + DAY_S)
