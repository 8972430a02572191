"""The sessions of markets, in wall-clock time and in UTC seconds. Knows no prices.

A session is the open and close of one trading day. Rules are in the exchange's wall-clock time, so
that sessions move with daylight saving, and are converted to UTC at the end. A trading day is named
by the day on which its session closes, as days since 1970-01-01.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
FIRST_YEAR, LAST_YEAR = 1980, 2060
"""Explicit bounds for exchange_calendars, whose defaults depend on the day of its import."""

LOGIN_ZONE = "America/New_York"
"""The login's time zone: for times without a zone, and those with `formatDate=1`."""

SATURDAY, SUNDAY = 5, 6


@dataclass(frozen=True)
class Wall:
    """Sessions in wall-clock seconds (1970-01-01 00:00 on the exchange's clock is 0), ascending."""

    day: Int64Array
    open: Int64Array
    close: Int64Array

    def __len__(self) -> int:
        return len(self.day)

    def only(self, chosen: npt.NDArray[np.bool_]) -> Wall:
        """The sessions at which `chosen` is true."""
        return Wall(self.day[chosen], self.open[chosen], self.close[chosen])


@dataclass(frozen=True)
class Sessions:
    """Sessions in UTC seconds, `[open, close)`, ascending, with their zone and its offsets."""

    zone: str
    day: Int64Array
    open: Int64Array
    close: Int64Array
    offset: Int64Array
    """Wall clock minus UTC at the open. No market here trades through a clock change."""

    def __len__(self) -> int:
        return len(self.day)

    def only(self, chosen: npt.NDArray[np.bool_]) -> Sessions:
        """The sessions at which `chosen` is true."""
        return Sessions(
            self.zone, self.day[chosen], self.open[chosen], self.close[chosen], self.offset[chosen]
        )

    def parts(self, size: int) -> Iterator[Sessions]:
        """The same sessions, at most `size` at a time."""
        place = np.arange(len(self))
        for first in range(0, len(self), size):
            yield self.only((place >= first) & (place < first + size))

    def index_of(self, time_s: Int64Array) -> Int64Array:
        """For each time the index of the session that contains it, -1 where none does."""
        index = np.searchsorted(self.open, time_s, side="right") - 1
        if not len(self):
            return index
        return np.where((index >= 0) & (time_s < self.close[index]), index, -1)


class Calendar:
    """A market's sessions over all time, from a rule that yields one year's wall-clock table."""

    def __init__(
        self,
        zone: str,
        rule: Callable[[int, bool], Wall],
        *,
        eve_s: int = 0,
        always_regular: bool = False,
    ) -> None:
        """`eve_s`: seconds before midnight at which a trading day begins; not 0: weekdays only.

        `always_regular`: all hours are regular hours.
        """
        self.zone = zone
        self.eve_s = eve_s
        self.always_regular = always_regular
        self.rule = rule

    def trading_day(self, wall_s: Int64Array) -> Int64Array:
        """The trading day of each time, even of one at which the market should be closed."""
        day = (wall_s + self.eve_s) // DAY_S
        if not self.eve_s:
            return day
        weekday = (day + 3) % 7
        return day + np.where(weekday == SATURDAY, -1, np.where(weekday == SUNDAY, 1, 0))

    def wall(self, first_day: int, last_day: int, *, regular: bool) -> Wall:
        """Sessions of the trading days `first_day` to `last_day`, both included.

        `regular`: liquid hours only (IB's `useRTH=1`).
        """
        years = range(_year(first_day), _year(last_day) + 1)
        tables = [self.rule(y, regular) for y in years if FIRST_YEAR <= y <= LAST_YEAR]
        joined = _join(tables)
        return joined.only((joined.day >= first_day) & (joined.day <= last_day))

    def on_days(self, first_day: int, last_day: int, *, regular: bool) -> Sessions:
        """The same sessions in UTC."""
        wall = self.wall(first_day, last_day, regular=regular)
        opens = to_utc(wall.open, self.zone)
        return Sessions(
            self.zone, wall.day, opens, to_utc(wall.close, self.zone), wall.open - opens
        )

    def between(self, start_s: int, end_s: int, *, regular: bool) -> Sessions:
        """Sessions that overlap `[start_s, end_s)`."""
        near = self.on_days(start_s // DAY_S - 2, end_s // DAY_S + 3, regular=regular)
        return near.only((near.close > start_s) & (near.open < end_s))

    def last(self, count: int, before_s: int, *, regular: bool) -> Sessions:
        """The last `count` sessions that opened before `before_s`; fewer near the first year."""
        span = count * 7 // 5 + 20
        while True:
            found = self.between(before_s - span * DAY_S, before_s, regular=regular)
            if len(found) >= count or _year(before_s // DAY_S - span) < FIRST_YEAR:
                return found.only(np.arange(len(found)) >= len(found) - count)
            span *= 2


def _year(day: int) -> int:
    return int(np.datetime64(int(day), "D").astype("datetime64[Y]").astype(np.int64)) + 1970


def _join(tables: list[Wall]) -> Wall:
    empty = np.empty(0, np.int64)
    return Wall(
        np.concatenate([empty, *(t.day for t in tables)]),
        np.concatenate([empty, *(t.open for t in tables)]),
        np.concatenate([empty, *(t.close for t in tables)]),
    )


def to_utc(wall_s: Int64Array, zone: str) -> Int64Array:
    """UTC seconds of wall-clock seconds; the first one for an hour that occurs twice."""
    hours, place = np.unique(wall_s // HOUR_S, return_inverse=True)
    tz = ZoneInfo(zone)
    offsets = [_offset_s(datetime.fromtimestamp(h * HOUR_S, UTC), tz) for h in hours.tolist()]
    return wall_s - np.array(offsets, np.int64)[place]


def to_wall(utc_s: Int64Array, zone: str) -> Int64Array:
    """Wall-clock seconds of UTC seconds."""
    hours, place = np.unique(utc_s // HOUR_S, return_inverse=True)
    tz = ZoneInfo(zone)
    offsets = [
        int((datetime.fromtimestamp(h * HOUR_S, tz).utcoffset() or timedelta()).total_seconds())
        for h in hours.tolist()
    ]
    return utc_s + np.array(offsets, np.int64)[place]


def _offset_s(wall: datetime, tz: ZoneInfo) -> int:
    return int((wall.replace(tzinfo=tz).utcoffset() or timedelta()).total_seconds())


def _weekdays(year: int) -> Int64Array:
    """Mondays to Fridays of the year, as days since 1970-01-01 (a Thursday)."""
    days = _all_days(year)
    return days[(days + 3) % 7 < 5]


def _all_days(year: int) -> Int64Array:
    first, end = (np.datetime64(f"{y}-01-01", "D").astype(np.int64) for y in (year, year + 1))
    return np.arange(first, end, dtype=np.int64)


@cache
def _exchange(name: str) -> Wall:
    """Opens and closes of all sessions in exchange_calendars, in wall-clock seconds."""
    found = exchange_calendars.get_calendar(
        name, start=f"{FIRST_YEAR}-01-01", end=f"{LAST_YEAR}-12-31"
    )
    zone = found.tz.key
    day = found.sessions.to_numpy().astype("datetime64[D]").astype(np.int64)
    utc = [
        column.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
        for column in (found.opens, found.closes)
    ]
    return Wall(day, to_wall(utc[0], zone), to_wall(utc[1], zone))


def _exchange_year(name: str, year: int) -> Wall:
    table, days = _exchange(name), _all_days(year)
    return table.only((table.day >= days[0]) & (table.day <= days[-1]))


@cache
def us_stocks(year: int, regular: bool) -> Wall:
    """New York stock exchanges: 09:30 to the bell; all hours from 04:00 to four hours after it."""
    bell = _exchange_year("XNYS", year)
    if regular:
        return bell
    midnight = bell.day * DAY_S
    return Wall(bell.day, midnight + 4 * HOUR_S, bell.close + 4 * HOUR_S)


@cache
def us_indices(year: int, regular: bool) -> Wall:  # noqa: ARG001  all its hours are regular
    """US stock indices: computed while New York's exchanges are open."""
    return _exchange_year("XNYS", year)


@cache
def forex(year: int, regular: bool) -> Wall:  # noqa: ARG001  all its hours are regular
    """IDEALPRO: 17:15 New York on the day before to 17:00, Mondays to Fridays, no holidays."""
    day = _weekdays(year)
    return Wall(day, (day - 1) * DAY_S + 17 * HOUR_S + 15 * MINUTE_S, day * DAY_S + 17 * HOUR_S)


@cache
def cme(year: int, regular: bool) -> Wall:
    """CME Globex: 17:00 Chicago on the day before to 16:00; liquid from 08:30.

    Days without trading and early closes are those of `CMES` in exchange_calendars, for every
    product; the daily break, which it leaves out, is added here.
    """
    table = _exchange_year("CMES", year)
    midnight = table.day * DAY_S
    opens = midnight + 8 * HOUR_S + 30 * MINUTE_S if regular else midnight - 7 * HOUR_S
    closes = np.minimum(table.close, midnight + 16 * HOUR_S)
    return Wall(table.day, opens, closes).only(closes > opens)


@cache
def always(year: int, regular: bool) -> Wall:  # noqa: ARG001  all its hours are regular
    """Crypto: every day from midnight to midnight."""
    day = _all_days(year)
    return Wall(day, day * DAY_S, (day + 1) * DAY_S)


US_STOCKS = Calendar("America/New_York", us_stocks)
US_INDICES = Calendar("America/New_York", us_indices, always_regular=True)
FOREX = Calendar("America/New_York", forex, eve_s=7 * HOUR_S, always_regular=True)
CME = Calendar("America/Chicago", cme, eve_s=7 * HOUR_S)
CRYPTO = Calendar("UTC", always, always_regular=True)
