"""The plan of the gateway's restarts and of the end of its log-in, by New York's clock.

IB Gateway restarts every day at a time that its owner sets (23:45 by default); on Sunday at
01:00 New York time the log-in ends and needs its second factor (IBC's user guide).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
LOG_OUT_AT = time(1, 0)
_SUNDAY = 6


@dataclass(frozen=True)
class Change:
    """The begin or end of a fault at this time."""

    at: datetime
    fault: str
    is_begin: bool


@dataclass(frozen=True)
class Nights:
    """The plan; by default nothing ever happens."""

    restart_at: time | None = None
    """The daily time of the restart in New York; None: never."""
    restart_s: float = 60.0
    """Seconds for which the port is closed then, by the gateway's clock."""
    logs_out: bool = False
    """Whether the log-in ends on Sundays at 01:00 in New York."""
    login_after_s: float | None = None
    """Seconds until the next log-in; None: until the fault `logged_out` is ended."""

    def changes(self, after: datetime, until: datetime) -> list[Change]:
        """The changes after `after` and not later than `until`, in order."""
        first = after.astimezone(NEW_YORK).date() - self._longest()
        last = until.astimezone(NEW_YORK).date()
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        found = [change for day in days for change in self._of_day(day)]
        return sorted((c for c in found if after < c.at <= until), key=lambda change: change.at)

    def next_change(self, after: datetime) -> datetime | None:
        """The time of the next change; None: there is none."""
        found = self.changes(after, after + timedelta(days=8))
        return found[0].at if found else None

    def _longest(self) -> timedelta:
        return timedelta(days=1, seconds=max(self.restart_s, self.login_after_s or 0))

    def _of_day(self, day: date) -> list[Change]:
        changes = []
        if self.restart_at:
            changes += _span(day, self.restart_at, "restart", self.restart_s)
        if self.logs_out and day.weekday() == _SUNDAY:
            changes += _span(day, LOG_OUT_AT, "logged_out", self.login_after_s)
        return changes


def _span(day: date, at: time, fault: str, lasts_s: float | None) -> list[Change]:
    begin = datetime.combine(day, at, NEW_YORK).astimezone(UTC)
    begun = Change(begin, fault, is_begin=True)
    if lasts_s is None:
        return [begun]
    return [begun, Change(begin + timedelta(seconds=lasts_s), fault, is_begin=False)]
