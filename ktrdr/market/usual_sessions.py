"""The usual sessions of a contract for which IB reports none. They have no holidays.

`Schedule.source` marks them. A bar that is wrongly expected costs one request, and is then absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from ktrdr.market.sessions import Schedule, Session, at_clock, utc_midnight
from ktrdr.market.timeframes import DAY_S
from ktrdr.market.zones import find_zone

Hours = tuple[str, int, str, int]
"""Opening and closing time, each with its offset from the trading day in days."""

_WORKDAYS = range(5)
_WEEKS_LEAST = 4
"""After this many weeks without some weekday, there is no trading on it."""
_RULES: dict[str, tuple[str, dict[int, list[Hours]]]] = {
    "STK": ("America/New_York", {d: [("0930", 0, "1600", 0)] for d in _WORKDAYS}),
    "FUT": ("America/Chicago", {d: [("1700", -1, "1600", 0)] for d in _WORKDAYS}),
    "CONTFUT": ("America/Chicago", {d: [("1700", -1, "1600", 0)] for d in _WORKDAYS}),
    "CASH": ("America/New_York", {d: [("1715", -1, "1700", 0)] for d in _WORKDAYS}),
    "CRYPTO": ("UTC", {d: [("0000", 0, "0000", 1)] for d in range(7)}),
}


def every_week(coming: Schedule, sec_type: str, start: int, end: int) -> Schedule:
    """The sessions of some days of a contract, repeated for every week.

    Of several days with the same weekday the longest counts: the others are half days. While few
    weeks are known, a weekday on which such contracts trade gets the hours of the longest day, if
    it is missing or shorter: the only Friday may be the one after Thanksgiving. A weekday on which
    such contracts do not trade counts only if most weeks have it.
    """
    _, of_its_kind = _RULES.get(sec_type, _RULES["STK"])
    sessions = _usual(coming.sessions, of_its_kind)
    is_little = len(_weeks(sessions)) < _WEEKS_LEAST
    zone = find_zone(coming.zone)
    by_day: dict[date, list[Hours]] = {}
    length: dict[date, int] = {}
    for session in sessions:
        day = datetime.fromtimestamp(session.day, UTC).date()
        opens, closes = (datetime.fromtimestamp(t, zone) for t in (session.open, session.close))
        hours = (
            f"{opens:%H%M}",
            (opens.date() - day).days,
            f"{closes:%H%M}",
            (closes.date() - day).days,
        )
        by_day.setdefault(day, []).append(hours)
        length[day] = length.get(day, 0) + session.close - session.open
    longest: dict[int, date] = {}
    for day in by_day:
        known = longest.get(day.weekday())
        if known is None or length[day] > length[known]:
            longest[day.weekday()] = day
    week = {weekday: by_day[day] for weekday, day in longest.items()}
    if week and is_little:
        most = max(longest.values(), key=lambda day: length[day])
        short = [
            day for day in of_its_kind if length.get(longest.get(day, date.min), 0) < length[most]
        ]
        week |= dict.fromkeys(short, by_day[most])
    return _from_week(week, coming.zone, start, end, "hours")


def usual_week(known: Schedule | None, received: Schedule, sec_type: str, now: int) -> Schedule:
    """The usual week, from all known sessions of a contract, for the interval of `received`."""
    sessions = {*received.sessions, *(known.sessions if known else ())}
    if not sessions:
        return by_rules(sec_type, received.start, now)
    together = replace(received, sessions=tuple(sorted(sessions)))
    return every_week(together, sec_type, received.start, now)


def _weeks(sessions: Sequence[Session]) -> set[int]:
    """The numbers of the weeks, which begin on Monday, with a trading day."""
    return {(session.day // DAY_S + 3) // 7 for session in sessions}


def _usual(sessions: Sequence[Session], weekdays: Collection[int]) -> Sequence[Session]:
    """The sessions on these weekdays, and on others that have trading in most weeks."""
    weeks = len(_weeks(sessions))
    counts = Counter((day + 3) % 7 for day in {s.day // DAY_S for s in sessions})
    usual = {day for day, count in counts.items() if day in weekdays or 2 * count > weeks}
    return [session for session in sessions if (session.day // DAY_S + 3) % 7 in usual]


def by_rules(sec_type: str, start: int, end: int) -> Schedule:
    """The usual sessions of a kind of contract.

    US stocks 09:30 to 16:00; CME futures 17:00 to 16:00 Chicago; forex 17:15 to 17:00 New York;
    crypto always (IB's trading hours).
    """
    zone, week = _RULES.get(sec_type, _RULES["STK"])
    return _from_week(week, zone, start, end, "rules")


def _from_week(
    week: Mapping[int, list[Hours]], zone: str, start: int, end: int, source: str
) -> Schedule:
    """The sessions of every day by its weekday's hours, in local wall-clock time."""
    local = find_zone(zone)
    sessions = []
    day = datetime.fromtimestamp(start - 2 * DAY_S, UTC).date()
    while utc_midnight(day) < end + 2 * DAY_S:
        for opens, opens_off, closes, closes_off in week.get(day.weekday(), []):
            open_ = at_clock(day + timedelta(days=opens_off), opens, local)
            close = at_clock(day + timedelta(days=closes_off), closes, local)
            sessions.append(Session(open_, close, utc_midnight(day)))
        day += timedelta(days=1)
    return Schedule(zone, start, end, tuple(sorted(sessions)), source)
