"""Sessions of a contract, and the bars that should exist in them. Requests none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ktrdr.errors import InvalidRequest
from ktrdr.market.bars import Bar
from ktrdr.market.timeframes import DAY_S, MINUTE_S, Timeframe
from ktrdr.market.zones import find_zone

Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SETTLE_S = 1
"""How long after its end an intraday bar counts as finished, by the clock that is behind."""
DAILY_SETTLE_S = 300
"""The same for daily bars, after the close."""
_H4_MINUTES = 240
_FAR = 2**62
_MANY = 50_000
"""As many bars as it takes milliseconds to find."""


class Session(NamedTuple):
    """One period of trading, `[open, close)`."""

    open: int
    """UTC seconds."""
    close: int
    day: int
    """Its trading day, as UTC midnight; IB dates a session by its close."""


@dataclass(frozen=True)
class Schedule:
    """The sessions of one contract, complete for `[start, end)`, unknown elsewhere."""

    zone: str
    start: int
    end: int
    sessions: tuple[Session, ...]
    """Ascending, without overlaps."""
    source: str = "ib"
    """`ib`; `hours`: the contract's coming week, repeated; `rules`: usual for its kind of contract.

    The last two have no holidays.
    """
    denied: tuple[int, ...] = ()
    """Trading days (UTC midnights) missing from IB's SCHEDULE between its first and last day.

    Their bars are still expected, until the days have been missing often enough.
    """

    @cached_property
    def columns(self) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
        """Opens, closes and days of the sessions, and local time minus UTC at each open, in s."""
        zone = find_zone(self.zone)
        open_, close, day = np.array(self.sessions, dtype=np.int64).reshape(-1, 3).T
        offset = [
            int((datetime.fromtimestamp(t, zone).utcoffset() or timedelta()).total_seconds())
            for t in open_.tolist()
        ]
        return open_, close, day, np.array(offset, dtype=np.int64)

    @property
    def is_sound(self) -> bool:
        """Its sessions ascend without overlaps, none is empty, and its zone is known."""
        try:
            find_zone(self.zone)
        except InvalidRequest:
            return False
        pairs = zip(self.sessions, self.sessions[1:], strict=False)
        return all(s.open < s.close for s in self.sessions) and all(
            one.close <= next_.open for one, next_ in pairs
        )

    def covers(self, start: int, end: int) -> bool:
        """Whether the schedule is complete for `[start, end)`."""
        return self.start <= start and end <= self.end

    def joined(self, other: Schedule) -> Schedule:
        """Both schedules as one; `other` takes precedence in its own interval.

        This one alone if there are unknown days between the two.
        """
        if other.start > self.end or self.start > other.end:
            return self
        mine = [
            s
            for s in self.sessions
            if s.close <= other.start
            or s.open >= other.end
            or (s.open < other.start and not other.overlaps(s))
        ]
        sessions = tuple(sorted({*mine, *other.sessions}))
        if other.start <= self.start and self.end <= other.end:  # it replaces this one
            return other
        both = (self.source, other.source)
        source = "ib" if both == ("ib", "ib") else next(s for s in both if s != "ib")
        start, end = min(self.start, other.start), max(self.end, other.end)
        days = {session.day for session in sessions}
        theirs = {session.day for session in other.sessions}
        denied = {*(set(self.denied) - theirs), *other.denied} & days
        return Schedule(self.zone, start, end, sessions, source, tuple(sorted(denied)))

    def overlaps(self, session: Session) -> bool:
        """Whether a session of this schedule overlaps that session."""
        return any(s.open < session.close and session.open < s.close for s in self.sessions)


class Expected(NamedTuple):
    """The bars that should exist: their starts, and the trading day of each."""

    starts: Int64Array
    days: Int64Array


def at_clock(day: date, clock: str, zone: ZoneInfo) -> int:
    """UTC seconds of a wall-clock time such as `0930` on a day; `2400` is the end of that day.

    ValueError: no such time.
    """
    minutes = 60 * int(clock[:2]) + int(clock[2:])
    if int(clock[2:]) >= 60 or minutes > DAY_S // 60:
        raise ValueError(f"{clock!r} is not a time of day")
    day += timedelta(days=minutes // (24 * 60))
    hour, minute = divmod(minutes % (24 * 60), 60)
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp())


def utc_midnight(day: date) -> int:
    """The UTC seconds under which daily bars of `day` are stored."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def expected(
    schedule: Schedule,
    timeframe: Timeframe,
    start: int,
    end: int,
    now: int,
    *,
    alignment: frozenset[int] | None = None,
) -> Expected:
    """The finished bars of `timeframe` that start in `[start, end)`; all times in UTC seconds.

    The first bar of a session starts with it, later ones at multiples of the length in the
    exchange's wall-clock time: IB's hours of US stocks are 09:30, 10:00, 11:00 … [observed].
    `alignment` is what bars have shown: the minutes past these multiples (empty: none). Where
    four-hour bars begin is not documented: for them it has the minutes of the local day at which
    they have been seen to begin; while there are none, only a session's open is certain. A bar is
    finished when the next one begins, the last of a session when that closes.
    """
    bars = _bars if end - start < _MANY * timeframe.length_s else _many_bars
    until = end + -end % DAY_S  # the same ones for a day
    starts, due, days = bars(schedule, timeframe, start, until, alignment or frozenset())
    ended = np.searchsorted(due, now, side="right")
    wanted = slice(min(ended, np.searchsorted(starts, end)))
    return Expected(starts[wanted], days[wanted])


def due_at(schedule: Schedule, timeframe: Timeframe, start: int, alignment: frozenset[int]) -> int:
    """When the bar of this `start` counts as finished (UTC seconds), as in `expected`.

    If no bar is expected at that start: when a bar of full length would be finished.
    """
    starts, due, _ = _bars(schedule, timeframe, start, start + 1, alignment)
    found = due[starts == start]
    return int(found[0]) if len(found) else start + timeframe.length_s + SETTLE_S


def next_due(
    schedule: Schedule, timeframe: Timeframe, now: int, alignment: frozenset[int]
) -> int | None:
    """When the next bar after `now` counts as finished; None: no session to come is known."""
    settle_s = DAILY_SETTLE_S if timeframe.is_daily else SETTLE_S
    reach_s = (4 * DAY_S if timeframe.is_daily else timeframe.length_s) + settle_s
    opens, closes, *_ = schedule.columns
    coming = opens[np.searchsorted(closes, now - settle_s, side="right") :]
    for begin in (now, *coming[:2].tolist()):
        _, due, _ = _bars(schedule, timeframe, begin - reach_s, begin + reach_s, alignment)
        later = due[due > now]
        if len(later):
            return int(later.min())
    return None


def _bars(
    schedule: Schedule, timeframe: Timeframe, start: int, end: int, alignment: frozenset[int]
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The starts in `[start, end)`; when each is finished, and its trading day. All ascend."""
    if timeframe.is_daily:
        return _daily_bars(schedule, start, end)
    open_, close, day, offset = schedule.columns
    near = (close > start - timeframe.length_s) & (open_ < end + timeframe.length_s)
    open_, close, day, offset = open_[near], close[near], day[near], offset[near]
    if timeframe is Timeframe.H4:
        starts, place = _four_hour_grid(schedule, near, alignment)
        minutes = (starts + offset[place]) // MINUTE_S % _H4_MINUTES
        is_on_grid = np.isin(minutes, _four_hour_multiples(schedule, alignment))
        ends = _four_hour_ends(starts, is_on_grid, open_, close)
    else:
        past_s = MINUTE_S * minute_of(alignment)
        starts, place = _grid(open_, close, offset - past_s, timeframe.length_s)
        ends = np.append(starts[1:], 0)
        lasts = np.flatnonzero(np.diff(place, append=-1))
        ends[lasts] = close[place[lasts]]
    wanted = slice(*np.searchsorted(starts, (start, end)))
    return starts[wanted], ends[wanted] + SETTLE_S, day[place[wanted]]


def _daily_bars(
    schedule: Schedule, start: int, end: int
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """One bar for each trading day; it is finished some time after the last session closes."""
    _, close, day, _ = schedule.columns
    near = (day >= start - start % DAY_S) & (day < end)
    days, place = np.unique(day[near], return_inverse=True)
    ends = np.zeros(len(days), dtype=np.int64)
    np.maximum.at(ends, place, close[near])
    return days, np.maximum.accumulate(ends) + DAILY_SETTLE_S, days


@lru_cache(maxsize=1)
def _many_bars(
    schedule: Schedule, timeframe: Timeframe, start: int, end: int, alignment: frozenset[int]
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The same for a long series, of which they are wanted several times for each answer.

    Only the last ones are kept: a million of them take 24 MB.
    """
    found = _bars(schedule, timeframe, start, end, alignment)
    for column in found:
        column.flags.writeable = False
    return found


def _grid(
    open_: Int64Array, close: Int64Array, offset: Int64Array, length_s: int
) -> tuple[Int64Array, Int64Array]:
    """All bar starts of these sessions, and the session of each.

    The first is the open, the next the first multiple of the length after it in local time
    (UTC plus `offset`).
    """
    second = open_ + length_s - (open_ + offset) % length_s
    counts = 1 + np.maximum(0, -((second - close) // length_s))
    place = np.repeat(np.arange(len(open_)), counts)
    firsts = np.cumsum(counts) - counts
    starts: Int64Array = np.arange(len(place)) * length_s
    starts += (second - (firsts + 1) * length_s)[place]
    starts[firsts] = open_
    return starts, place


def _four_hour_grid(
    schedule: Schedule, near: BoolArray, alignment: frozenset[int]
) -> tuple[Int64Array, Int64Array]:
    """The same for four-hour bars, at the local minutes at which they have been seen to begin."""
    zone = find_zone(schedule.zone)
    found = [
        (start, place)
        for place, session in enumerate(
            s for s, is_near in zip(schedule.sessions, near.tolist(), strict=True) if is_near
        )
        for start in _four_hours(session, zone, alignment)
    ]
    found = sorted(dict(reversed(found)).items())  # over a break
    starts, place = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return starts, place


def _four_hours(session: Session, zone: ZoneInfo, alignment: frozenset[int]) -> list[int]:
    """The starts of four-hour bars in a session. Its open is one unless a bar spans the open."""
    starts = set(_at_minutes(session, zone, alignment))
    if local_minute(session.open, zone) in alignment or not any(t < session.open for t in starts):
        starts = {t for t in starts if t >= session.open} | {session.open}
    return sorted(starts)


def _at_minutes(session: Session, zone: ZoneInfo, minutes: Iterable[int]) -> Iterator[int]:
    """The times at these local minutes whose four hours overlap the session."""
    reach = Timeframe.H4.length_s
    day = datetime.fromtimestamp(session.open - reach, zone).date()
    while utc_midnight(day) < session.close + DAY_S:
        for minute in minutes:
            start = at_clock(day, f"{minute // 60:02}{minute % 60:02}", zone)
            if session.open - reach < start < session.close:
                yield start
        day += timedelta(days=1)


def _four_hour_multiples(schedule: Schedule, alignment: frozenset[int]) -> list[int]:
    """At how many minutes past multiples of four hours bars have been seen to begin, but at opens.

    Empty: at none yet, or at unlike ones, so that nothing is sure.
    """
    opens, _, _, offset = schedule.columns
    at_opens = (opens + offset) // MINUTE_S % (DAY_S // MINUTE_S)
    seen = {minute % _H4_MINUTES for minute in alignment.difference(at_opens.tolist())}
    return list(seen) if len(seen) == 1 else []


def _four_hour_ends(
    starts: Int64Array, is_on_grid: BoolArray, open_: Int64Array, close: Int64Array
) -> Int64Array:
    """When these bars end: four hours later, unless the next one or the end of trading is sooner.

    A bar may go on after a break. If it is not sure that the next one begins there, because it is
    neither at an open nor on the grid, the whole length counts: a bar must not be taken for
    finished too soon.
    """
    sure = np.append(starts[is_on_grid | np.isin(starts, open_)], _FAR)
    following = sure[np.searchsorted(sure, starts, side="right")]
    ends = np.minimum(starts + Timeframe.H4.length_s, following)
    last = np.searchsorted(open_, ends) - 1
    ends_traded: Int64Array = np.minimum(ends, close[last])
    return ends_traded


def closed(starts: Int64Array, schedule: Schedule, timeframe: Timeframe) -> BoolArray:
    """Which of these bars overlap no session, as IB itself reports the sessions.

    False where that is not known: outside the schedule, and if its sessions are the usual ones.
    """
    if schedule.source != "ib":
        return np.zeros(len(starts), dtype=np.bool_)
    known = (starts >= schedule.start) & (starts + timeframe.length_s <= schedule.end)
    opens, closes, days, _ = schedule.columns
    if timeframe.is_daily:
        return known & ~np.isin(starts, days)
    # The last session that opens before the bar ends has closed before the bar starts.
    place = np.searchsorted(opens, starts + timeframe.length_s)
    closed_before = np.concatenate(([schedule.start], closes))
    return known & (closed_before[place] <= starts)


def finished(bars: Iterable[Bar], due: Int64Array, timeframe: Timeframe, now: int) -> list[Bar]:
    """The bars that can no longer change: they are due, or their whole length has passed."""
    sure = set(due.tolist())
    length_s = 2 * DAY_S if timeframe.is_daily else timeframe.length_s
    return [b for b in bars if b.start in sure or b.start + length_s + SETTLE_S <= now]


def minute_of(alignment: frozenset[int]) -> int:
    """The minutes past multiples of their length at which bars begin, except four-hour bars."""
    return min(alignment, default=0)


def local_minute(time_s: int, zone: ZoneInfo) -> int:
    """The minutes since local midnight, as in an alignment."""
    local = datetime.fromtimestamp(time_s, zone)
    return local.hour * 60 + local.minute


def learnt_alignment(schedule: Schedule, starts: Iterable[int]) -> frozenset[int]:
    """The alignment that these starts of IB's bars show."""
    zone = find_zone(schedule.zone)
    return frozenset(local_minute(start, zone) for start in starts)
