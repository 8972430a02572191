"""Sessions parsed from IB's formats: SCHEDULE, and the hours in a contract's details.

Unreadable parts do not affect the others: they are reported, and the usual hours used instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ktrdr.market.sessions import Schedule, Session, at_clock, utc_midnight
from ktrdr.market.timeframes import DAY_S
from ktrdr.market.usual_sessions import every_week
from ktrdr.market.zones import find_zone

_SESSION_MAX_S = 8 * DAY_S
"""Maximum seconds of a session: no market is open for longer without a break."""

_NEAR_S = 8 * DAY_S
"""Maximum seconds from a session to its trading day, and to the requested time."""
_CALENDAR_DAYS = 3
"""Maximum calendar days per trading day, over any year."""
_YEARS = range(1970, 2101)

_PIECE = re.compile(r"(?:(\d{8}):)?(\d{4})-(?:(\d{8}):)?(\d{4})")
_MOMENT = re.compile(r"(\d{8})[- :](\d{2}):?(\d{2})(?::?(\d{2}))?")


class ReceivedSession(NamedTuple):
    """One session of SCHEDULE: local times such as `20261123-09:30:00`, the day `20261123`."""

    opens: str
    closes: str
    day: str

    def __str__(self) -> str:
        return f"{self.opens or '?'} to {self.closes or '?'} of {self.day or '?'}"


@dataclass(frozen=True)
class ReceivedSchedule:
    """IB's answer to SCHEDULE, unparsed."""

    zone: str
    """As IB names it; may be empty."""
    start: str
    """The beginning of the answer; may be empty."""
    sessions: tuple[ReceivedSession, ...]


class Read(NamedTuple):
    """The parsed sessions."""

    schedule: Schedule
    unreadable: tuple[str, ...]
    """Invalid sessions, as IB sent them."""


def read_schedule(
    received: ReceivedSchedule, zone: str, sec_type: str, end: int, days: int
) -> Read:
    """The sessions of SCHEDULE: of the `days` trading days up to `end` (UTC seconds), and no later.

    `zone`: an IANA name. A session that cannot be read is replaced by the usual one of its
    weekday in the answer; where its day is not known either, it is left out.
    """
    local = find_zone(zone)
    oldest = end - _CALENDAR_DAYS * days * DAY_S - _NEAR_S
    sessions: list[Session] = []
    odd: list[ReceivedSession] = []
    for one in sorted(received.sessions):
        session = _session(one, local)
        if session is not None and not oldest <= session.open <= end + _NEAR_S:
            session = None  # outside the requested time
        if session is None or (sessions and session.open < sessions[-1].close):
            if not sessions or session != sessions[-1]:  # else it is a mere duplicate
                odd.append(one)
        else:
            sessions.append(session)
    near = {day for day in map(_day_of, odd) if day and oldest <= day <= end + _NEAR_S}
    sessions = sorted([*sessions, *_usual_ones(sessions, near, zone, sec_type)])
    begin = _moment(received.start, local)
    has_begin = begin is not None and begin >= oldest
    start = min([begin if begin is not None and has_begin else end, *(s.open for s in sessions)])
    until = max([end, *(s.close for s in sessions)])
    return Read(Schedule(zone, start, until, tuple(sessions)), tuple(map(str, odd)))


def _session(one: ReceivedSession, zone: ZoneInfo) -> Session | None:
    """The parsed session; None: its times or its day are invalid."""
    opens, closes, day = _moment(one.opens, zone), _moment(one.closes, zone), _day_of(one)
    if opens is None or closes is None or day is None:
        return None
    is_one = 0 < closes - opens <= _SESSION_MAX_S and opens - _NEAR_S <= day <= closes + _NEAR_S
    return Session(opens, closes, day) if is_one else None


def _moment(text: str, zone: ZoneInfo) -> int | None:
    """UTC seconds of a local time; None: it is invalid. `24:00:00` is the end of its day."""
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    try:
        return at_clock(_date(match[1]), match[2] + match[3], zone) + int(match[4] or 0) % 60
    except (ValueError, OverflowError):
        return None


def _day_of(one: ReceivedSession) -> int | None:
    """The trading day as UTC midnight, or else the date on which the session closes or opens."""
    for text in (one.day, one.closes, one.opens):
        try:
            return utc_midnight(_date(text.strip()[:8]))
        except ValueError:
            continue
    return None


def _date(text: str) -> date:
    """A date. ValueError: it is invalid, or outside the years that are possible."""
    day = datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
    if day.year not in _YEARS:
        raise ValueError(text)
    return day


def _usual_ones(
    sessions: Sequence[Session], days: set[int], zone: str, sec_type: str
) -> list[Session]:
    """The usual sessions of those of these trading days that have none."""
    if not days:
        return []
    known = Schedule(zone, min(days), max(days) + DAY_S, tuple(sessions))
    usual = every_week(known, sec_type, known.start, known.end)
    return [s for s in usual.sessions if s.day in days and not known.overlaps(s)]


# The hours of a contract's details.


def read_hours(text: str, zone: str) -> tuple[Schedule | None, tuple[str, ...]]:
    """The sessions in IB's `tradingHours` or `liquidHours`, and the invalid parts.

    None when it names no day; the days after one that cannot be read are left out. The format is
    `20261123:0930-20261123:1600;20261124:CLOSED`, in the contract's time zone (TWS API,
    ContractDetails). A session belongs to the trading day on which it closes, and one that
    closes at midnight to the day that ends then.
    """
    local = find_zone(zone)
    found: dict[date, list[Session]] = {}
    odd: list[str] = []
    for part in filter(None, text.split(";")):
        try:
            day = _date(part[:8])
            is_closed = part[8:].upper() == ":CLOSED"
            for each, session in ((day, None),) if is_closed else _hours(part, local):
                found.setdefault(each, []).extend(() if session is None else (session,))
        except (ValueError, OverflowError):
            odd.append(part)
    days = _in_a_row(sorted(found))
    sessions: list[Session] = []
    for session in sorted({session for day in days for session in found[day]}):
        if sessions and session.open < sessions[-1].close:
            odd.append(f"{session}, which overlaps {sessions[-1]}")
            return None, tuple(odd)
        sessions.append(session)
    if not days:
        return None, tuple(odd)
    # Sessions that began the evening before belong to the first day named.
    start = min([at_clock(days[0], "0000", local), *(s.open for s in sessions)])
    end = at_clock(days[-1] + timedelta(days=1), "0000", local)
    return Schedule(zone, start, end, tuple(sessions)), tuple(odd)


def _in_a_row(days: Sequence[date]) -> Sequence[date]:
    """The days up to the first one that is missing."""
    row = takewhile(lambda pair: pair[1] == days[0] + timedelta(days=pair[0]), enumerate(days))
    return [day for _, day in row]


def _hours(part: str, zone: ZoneInfo) -> list[tuple[date, Session | None]]:
    """The days that a part names, with their sessions. ValueError: some cannot be read.

    The day on which a session closes is named too.
    """
    found: list[tuple[date, Session | None]] = []
    first = ""
    for piece in part.split(","):
        match = _PIECE.fullmatch(piece)
        first = (match and match[1]) or first
        if match is None or not first:
            raise ValueError(piece)
        closing_day = _date(match[3] or first)
        opens, closes = (
            at_clock(_date(first), match[2], zone),
            at_clock(closing_day, match[4], zone),
        )
        if not 0 < closes - opens <= _SESSION_MAX_S:
            raise ValueError(piece)
        day = closing_day - timedelta(days=match[4] == "0000")
        found += [(_date(first), Session(opens, closes, utc_midnight(day))), (day, None)]
    return found
