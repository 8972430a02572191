"""Unscheduled bars: IB sent them at times without trading in SCHEDULE. When to accept them. Pure.

They may belong to a special session on a Saturday, or be bars shifted by a damaged answer. They are
accepted when later answers repeat them; the sessions that they show are then expected like any
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from ktrdr.market.bars import Bar
from ktrdr.market.sessions import (
    Expected,
    Int64Array,
    Schedule,
    Session,
    utc_midnight,
)
from ktrdr.market.timeframes import DAY_S, HOUR_S, Timeframe
from ktrdr.market.zones import find_zone

_MANY, _MANY_TIMES, _MANY_AFTER_S = 10, 2, 300
"""This many bars of one day are unlikely to be an error: accepted when received twice."""
_FEW_TIMES, _FEW_AFTER_S = 3, 25 * HOUR_S
"""Fewer are accepted only on another day: a server may be unwell for a day."""
_BREAK_S = 2 * HOUR_S
"""Bars that are further apart belong to two sessions."""


class Unscheduled(NamedTuple):
    """A bar received at a time without trading."""

    bar: Bar
    times: int
    """How often it was received unchanged while the clocks agreed."""
    first_at: int
    """When the first of these answers was requested (UTC seconds)."""


@dataclass(frozen=True)
class Screened:
    """Which of an answer's bars at times without trading are accepted."""

    accepted: list[Bar]
    unverified: dict[int, Unscheduled]
    """Start → bar: to be requested again."""


def screen(
    known: Mapping[int, Unscheduled],
    received: Sequence[Bar],
    requested_at: int,
    missing: int = 0,
    *,
    is_sure: bool = True,
) -> Screened:
    """Which of the bars `received` are accepted, if those `known` were received before.

    `missing`: how many expected bars the same answer did not have. Unless the time `is_sure`, the
    answer does not count.
    """
    now: dict[int, Unscheduled] = {}
    for bar in received:
        before = known.get(bar.start)
        if before is None or before.bar[:5] != bar[:5]:  # volumes grow for a while
            before = Unscheduled(bar, 0, requested_at)
        first_at = before.first_at if before.times else requested_at
        now[bar.start] = Unscheduled(bar, before.times + is_sure, first_at)
    of_day: dict[int, int] = {}
    for start in now:
        of_day[start // DAY_S] = of_day.get(start // DAY_S, 0) + 1

    is_shifted = are_shifted(len(received), missing)

    def is_accepted(one: Unscheduled) -> bool:
        is_many = of_day[one.bar.start // DAY_S] >= _MANY and not is_shifted
        times, after_s = (_MANY_TIMES, _MANY_AFTER_S) if is_many else (_FEW_TIMES, _FEW_AFTER_S)
        return is_sure and one.times >= times and requested_at - one.first_at >= after_s

    accepted = [one.bar for one in now.values() if is_accepted(one)]
    return Screened(accepted, {t: one for t, one in now.items() if not is_accepted(one)})


def are_shifted(unscheduled: int, missing: int) -> bool:
    """Whether these bars may be the missing ones, shifted: there are about as many."""
    return unscheduled > 0 and unscheduled <= 2 * missing <= 4 * unscheduled


def sessions_of(starts: Iterable[int], schedule: Schedule, timeframe: Timeframe) -> list[Session]:
    """The sessions shown by bars at times without trading; none overlaps a known one.

    Those of intraday bars reach from the first bar to the last; those of daily bars have the
    hours of the nearest trading day.
    """
    if timeframe.is_daily:
        shown = [_like_the_nearest(day, schedule) for day in starts if schedule.sessions]
        return [session for session in shown if not schedule.overlaps(session)]
    found: list[Session] = []
    opens = np.array([s.open for s in schedule.sessions], np.int64)
    before = -1
    for start in sorted(starts):
        end = start + timeframe.length_s
        place = int(np.searchsorted(opens, start))
        begin = max([start, *(s.close for s in schedule.sessions[max(0, place - 1) : place])])
        end = min([end, *(s.open for s in schedule.sessions[place : place + 1])])
        last = found[-1] if found else None
        if last is not None and place == before and begin - last.close <= _BREAK_S:
            found[-1] = last._replace(close=end)
        else:
            found.append(Session(begin, end, 0))
        before = place
    return [s._replace(day=_local_day(s.close - 1, schedule)) for s in found]


def _like_the_nearest(day: int, schedule: Schedule) -> Session:
    """A session on this day with the opening and closing times of the nearest trading day."""
    zone = find_zone(schedule.zone)
    near = min(schedule.sessions, key=lambda s: (abs(s.day - day), -(s.close - s.open)))
    opens, closes = (
        datetime.fromtimestamp(t, zone) + timedelta(seconds=day - near.day)  # by the local clock
        for t in (near.open, near.close)
    )
    return Session(int(opens.timestamp()), int(closes.timestamp()), day)


def with_sessions(schedule: Schedule, sessions: Iterable[Session]) -> Schedule:
    """The schedule with these sessions added; their days count as missing from SCHEDULE."""
    more = set(sessions)
    if not more:
        return schedule
    received = {session.day for session in schedule.sessions} - set(schedule.denied)
    denied = {*schedule.denied, *(session.day for session in more if session.day not in received)}
    together = tuple(sorted({*schedule.sessions, *more}))
    return replace(schedule, sessions=together, denied=tuple(sorted(denied)))


def with_unscheduled(
    expected: Expected, starts: Int64Array, schedule: Schedule, timeframe: Timeframe
) -> Expected:
    """The expected bars, and these bars as well."""
    starts = np.unique(starts)  # few or none: the expected ones can be millions, and ascend
    begins, ends = (np.searchsorted(expected.starts, starts, side) for side in ("left", "right"))
    more = starts[begins == ends]
    if not len(more):
        return expected
    of_more = [t if timeframe.is_daily else _local_day(t, schedule) for t in more.tolist()]
    both = np.concatenate((expected.starts, more))
    days = np.concatenate((expected.days, np.array(of_more, np.int64)))
    order = np.argsort(both, kind="stable")
    return Expected(both[order], np.maximum.accumulate(days[order]))


def _local_day(time_s: int, schedule: Schedule) -> int:
    return utc_midnight(datetime.fromtimestamp(time_s, find_zone(schedule.zone)).date())
