"""When a gateway is expected to be away: its daily restart, and the end of its log-in on Sundays.

IB Gateway restarts every day at a time that its owner sets, 23:45 local time by default; on
Sunday at 01:00 New York time the log-in ends and wants its second factor (IBC's user guide).
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
"""One zone for each of the dates at which clocks are changed, and one in which they never are."""
LOG_OUT_AT = time(1, 0)
_SUNDAY = 6

USUAL_RESTART_AT = time(23, 45)
"""IB Gateway's own default, in its local time."""
_EARLY_S, _LATE_S = 120.0, 600.0
"""How much before or after its hour a restart may begin and still be the expected one."""
_GRACE_S = 300.0
"""How much longer than usual it may take before that is an alarm."""
_LOG_OUT_EARLY_S, _LOG_OUT_LATE_S = 300.0, 1800.0
_REMIND_S = 12 * 3600.0

_LEARN_RESTARTS = 3
"""On so many nights the connection must have been lost at about the same time."""
_LEARN_WITHIN_S = 600.0
_LEARN_AWAY_MAX_S = 900.0
"""What was away for longer was no restart."""


@dataclass(frozen=True)
class Outage:
    """The connection was gone from `start` to `end` (UTC seconds)."""

    start: float
    end: float


@dataclass(frozen=True)
class Absence:
    """Why the gateway is away, when that was to be expected."""

    kind: str
    """`restart` or `log_out`."""
    back_at: datetime | None
    """None: when somebody has logged in."""
    words: str


@dataclass(frozen=True)
class Expectation:
    """What is known of a gateway's calendar, and since when it is away."""

    restart: Restart | None
    logs_out: bool
    """Its log-in ends on Sundays, as far as anybody knows."""
    lost_at: datetime | None
    """Since when the connection is gone; None: it is there, or never was."""

    def absence(self, now: datetime) -> Absence | None:
        """Why the gateway is away, where that was to be expected."""
        return self.absence_since(self.lost_at, now) if self.lost_at else None

    def absence_since(self, lost_at: datetime, now: datetime) -> Absence | None:
        """The same for a connection that is lost at that time."""
        return absence(self.restart, logs_out=self.logs_out, lost_at=lost_at, now=now)

    def reminder(self, now: datetime) -> str:
        """What a person should be ready for; empty: nothing."""
        return reminder(now) if self.logs_out else ""


def learn_restart(outages: Sequence[Outage], zone: tzinfo) -> Restart | None:
    """The restart that past outages show: short ones at about the same hour on several nights.

    None: there is no such hour. The hour is that of the gateway's wall clock, which may change at
    another date than this machine's (`zone`), or never: of the zones those count by whose clock
    most nights agree.
    """
    short = [o for o in outages if o.end - o.start <= _LEARN_AWAY_MAX_S]
    found = [(_same_hour(short, where), where) for where in (zone, *_CLOCKS)]
    most = max(_restarts(best, where) for best, where in found)
    if most < _LEARN_RESTARTS:
        return None
    agreeing = [(best, where) for best, where in found if _restarts(best, where) == most]
    (best, where), *others = agreeing
    away_s = statistics.median(o.end - o.start for o in best)
    elsewhere = tuple((_hour(same, other), other) for same, other in others)
    return Restart(_hour(best, where), where, away_s, "learnt", elsewhere)


def _same_hour(short: Sequence[Outage], zone: tzinfo) -> list[Outage]:
    """Those that began at about the same hour of this zone's clock, on the most nights."""
    clock = {o: _second_of_day(datetime.fromtimestamp(o.start, zone)) for o in short}
    best: list[Outage] = []
    for candidate in short:
        near = [o for o in short if _apart_s(clock[o], clock[candidate]) <= _LEARN_WITHIN_S]
        if _restarts(near, zone) > _restarts(best, zone):
            best = near
    return best


def _hour(outages: Sequence[Outage], zone: tzinfo) -> time:
    """About when they began, by this zone's clock."""
    clock = [_second_of_day(datetime.fromtimestamp(o.start, zone)) for o in outages]
    # Around the first of them, so that 23:59 and 00:01 are neighbours.
    offsets = [(each - clock[0] + 43200) % 86400 - 43200 for each in clock]
    at_s = round(clock[0] + statistics.median(offsets)) % 86400
    return time(at_s // 3600, at_s % 3600 // 60)


def absence(
    restart: Restart | None, *, logs_out: bool, lost_at: datetime, now: datetime
) -> Absence | None:
    """Whether a connection that was lost at `lost_at` is expected to be away still. Times aware."""
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
    """True when the connection was lost as the week's log-in ended, and was not there since."""
    ended = _last_log_out(now)
    early = ended - timedelta(seconds=_LOG_OUT_EARLY_S)
    return early <= lost_at <= ended + timedelta(seconds=_LOG_OUT_LATE_S) and now >= ended


def reminder(now: datetime) -> str:
    """What to say in the hours before the log-in ends; else nothing."""
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
    """A loss at this time belongs to the restart, by any of the clocks that may be meant."""
    hours = ((restart.at, restart.zone), *restart.elsewhere)
    return any(_is_near(at, zone, lost_at) for at, zone in hours)


def _is_near(at: time, zone: tzinfo, lost_at: datetime) -> bool:
    day = lost_at.astimezone(zone).date()
    days = (day - timedelta(days=1), day, day + timedelta(days=1))
    since = [(lost_at - _at(one, at, zone)).total_seconds() for one in days]
    return any(-_EARLY_S <= since_s <= _LATE_S for since_s in since)


def _utc(moment: datetime) -> str:
    """`04:47 UTC`: whoever reads it may sit anywhere."""
    return f"{moment.astimezone(UTC):%H:%M} UTC"


def _last_log_out(now: datetime) -> datetime:
    """The last Sunday's 01:00 in New York that is not after `now`."""
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
    """Seconds between two times of day, around midnight too."""
    apart = abs(one - other) % 86400
    return min(apart, 86400 - apart)


def _restarts(outages: Sequence[Outage], zone: tzinfo) -> int:
    """On how many days they began; a day ends at noon, so that a night is one."""
    return len({datetime.fromtimestamp(o.start - 43200, zone).date() for o in outages})
