"""When a gateway is expected to be away, as learnt from its restarts: each night, and on Sundays.

IB Gateway restarts every day at a time that its owner sets, 23:45 local time by default; on
Sunday at 01:00 New York time the log-in ends and needs its second factor (IBC's user guide).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from ktrdr.config.restart_times import Restart

NEW_YORK = ZoneInfo("America/New_York")
_CLOCKS = (NEW_YORK, ZoneInfo("Europe/London"), ZoneInfo("Australia/Sydney"), UTC)
"""One zone for each set of clock-change dates, and one without clock changes."""
LOG_OUT_AT = time(1, 0)
_SUNDAY = 6

USUAL_RESTART_AT = time(23, 45)
"""IB Gateway's default, in its local time."""
_EARLY_S, _LATE_S = 120.0, 600.0
"""Seconds before or after its hour in which an expected restart may begin."""
_GRACE_S = 300.0
"""Seconds that a restart may take beyond the usual before it counts as unexpected."""
_LOG_OUT_EARLY_S, _LOG_OUT_LATE_S = 300.0, 1800.0
_REMIND_S = 12 * 3600.0

_HALF_DAY = timedelta(hours=12)
_LEARN_RESTARTS = 3
"""Nights on which the connection must have been lost at about the same time."""
_LEARN_WITHIN_S = 600.0
_LEARN_AWAY_MAX_S = 900.0
"""A longer outage was not a restart."""


@dataclass(frozen=True)
class Disconnection:
    """A time without a connection."""

    start: datetime
    end: datetime

    @property
    def length_s(self) -> float:
        """Its length in seconds."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True)
class Absence:
    """Why the gateway is away, where that is expected."""

    kind: str
    """`restart` or `log_out`."""
    back_at: datetime | None
    """None: when somebody has logged in."""
    words: str


@dataclass(frozen=True)
class Expectation:
    """The known calendar of a gateway, and since when it is away."""

    restart: Restart | None
    logs_out: bool
    """Its log-in is assumed to end on Sundays."""
    lost_at: datetime | None
    """When the connection was lost; None: it is up, or never was."""

    def absence(self, now: datetime) -> Absence | None:
        """Why the gateway is away, where that is expected; else None."""
        return self.absence_since(self.lost_at, now) if self.lost_at else None

    def absence_since(self, lost_at: datetime, now: datetime) -> Absence | None:
        """The same for a connection that was lost at `lost_at`."""
        return absence(self.restart, logs_out=self.logs_out, lost_at=lost_at, now=now)

    def reminder(self, now: datetime) -> str:
        """A reminder of the log-in that will be needed; empty: none."""
        return reminder(now) if self.logs_out else ""


def learn_restart(outages: Sequence[Disconnection], zone: tzinfo) -> Restart | None:
    """The restart that past outages show: short ones at about the same hour on several nights.

    None: there is no such hour. The hour is that of the gateway's wall clock, whose changes may
    differ from those of this machine's (`zone`): the zones in which most nights agree are used.
    """
    short = [o for o in outages if o.length_s <= _LEARN_AWAY_MAX_S]
    found = [(_same_hour(short, where), where) for where in (zone, *_CLOCKS)]
    most = max(_restarts(best, where) for best, where in found)
    if most < _LEARN_RESTARTS:
        return None
    agreeing = [(best, where) for best, where in found if _restarts(best, where) == most]
    (best, where), *others = agreeing
    away_s = statistics.median(o.length_s for o in best)
    elsewhere = tuple((_hour(same, other), other) for same, other in others)
    return Restart(_hour(best, where), where, away_s, "learnt", elsewhere)


def _same_hour(short: Sequence[Disconnection], zone: tzinfo) -> list[Disconnection]:
    """The outages that began at about the same hour of this zone's clock, on the most nights."""
    clock = {o: _second_of_day(o.start.astimezone(zone)) for o in short}
    best: list[Disconnection] = []
    for candidate in short:
        near = [o for o in short if _apart_s(clock[o], clock[candidate]) <= _LEARN_WITHIN_S]
        if _restarts(near, zone) > _restarts(best, zone):
            best = near
    return best


def _hour(outages: Sequence[Disconnection], zone: tzinfo) -> time:
    """The median time at which they began, by this zone's clock."""
    clock = [_second_of_day(o.start.astimezone(zone)) for o in outages]
    # Relative to the first of them, so that 23:59 and 00:01 are close.
    offsets = [(each - clock[0] + 43200) % 86400 - 43200 for each in clock]
    at_s = round(clock[0] + statistics.median(offsets)) % 86400
    return time(at_s // 3600, at_s % 3600 // 60)


def absence(
    restart: Restart | None, *, logs_out: bool, lost_at: datetime, now: datetime
) -> Absence | None:
    """Why a connection lost at `lost_at` is expected to be away still, or None. Aware times."""
    if logs_out and is_logged_out(lost_at, now):
        return Absence("log_out", None, "the weekly log-out: somebody has to log in to the gateway")
    if restart is None:
        return None
    back_at = lost_at + timedelta(seconds=restart.away_s)
    if not _is_restart(restart, lost_at) or now > back_at + timedelta(seconds=_GRACE_S):
        return None
    source = "" if restart.how_known == "configured" else f" ({restart.how_known} hour)"
    return Absence("restart", back_at, f"expected restart{source}, back at about {_utc(back_at)}")


def is_logged_out(lost_at: datetime, now: datetime) -> bool:
    """True when the connection was lost as the week's log-in ended, and has not returned since."""
    ended = _last_log_out(now)
    early = ended - timedelta(seconds=_LOG_OUT_EARLY_S)
    return early <= lost_at <= ended + timedelta(seconds=_LOG_OUT_LATE_S) and now >= ended


def reminder(now: datetime) -> str:
    """A reminder in the 12 hours before the log-in ends; else empty."""
    following = _last_log_out(now + timedelta(days=7))
    left_s = (following - now).total_seconds()
    if not 0 < left_s <= _REMIND_S:
        return ""
    hours, minutes = divmod(int(left_s) // 60, 60)
    span = f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
    return (
        f"the gateway's log-in ends on Sunday at 01:00 New York time, in {span}: "
        "it will want its second factor"
    )


def _is_restart(restart: Restart, lost_at: datetime) -> bool:
    """Whether a loss at this time fits the restart, by any of its possible clocks."""
    hours = ((restart.at, restart.zone), *restart.elsewhere)
    return any(_is_near(at, zone, lost_at) for at, zone in hours)


def _is_near(at: time, zone: tzinfo, lost_at: datetime) -> bool:
    day = lost_at.astimezone(zone).date()
    days = (day - timedelta(days=1), day, day + timedelta(days=1))
    since = [(lost_at - _at(one, at, zone)).total_seconds() for one in days]
    return any(-_EARLY_S <= since_s <= _LATE_S for since_s in since)


def _utc(moment: datetime) -> str:
    """`04:47 UTC`, as the reader may be in any time zone."""
    return f"{moment.astimezone(UTC):%H:%M} UTC"


def _last_log_out(now: datetime) -> datetime:
    """The last Sunday at 01:00 in New York that is not after `now`."""
    day = now.astimezone(NEW_YORK).date()
    while True:
        ended = _at(day, LOG_OUT_AT, NEW_YORK)
        if day.weekday() == _SUNDAY and ended <= now:
            return ended
        day -= timedelta(days=1)


def _at(day: date, at: time, zone: tzinfo) -> datetime:
    return datetime.combine(day, at, zone).astimezone(UTC)


def _second_of_day(local: datetime) -> int:
    return local.hour * 3600 + local.minute * 60 + local.second


def _apart_s(one: int, other: int) -> int:
    """Seconds between two times of day, across midnight if that is shorter."""
    apart = abs(one - other) % 86400
    return min(apart, 86400 - apart)


def _restarts(outages: Sequence[Disconnection], zone: tzinfo) -> int:
    """The number of days on which they began; a day ends at noon, so that a night counts once."""
    return len({(o.start - _HALF_DAY).astimezone(zone).date() for o in outages})
