"""The plan of nightly restarts and Sunday log-outs, in New York time. Carries nothing out.

IB Gateway restarts every day at a time that its owner sets (23:45 by default); on Sundays at
01:00 New York time it logs out, and the next log-in needs the second factor (IBC's user guide).
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
    """The beginning or the end of a fault."""

    at: datetime
    fault: str
    is_begin: bool


@dataclass(frozen=True)
class Nights:
    """The nightly restarts and the Sunday log-outs; by default there are none."""

    restart_at: time | None = None
    """The time of the daily restart in New York; None: never."""
    restart_s: float = 60.0
    """How long the port is then closed, in seconds of the gateway's clock."""
    logs_out: bool = False
    """Whether it logs out on Sundays at 01:00 in New York."""
    login_after_s: float | None = None
    """Seconds from there to the next log-in; None: until the fault `logged_out` is ended."""

    def changes(self, after: datetime, until: datetime) -> list[Change]:
        """The changes after `after` and not later than `until`, in order."""
        first = after.astimezone(NEW_YORK).date() - self._longest()
        last = until.astimezone(NEW_YORK).date()
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        changes = [change for day in days for change in self._of_day(day)]
        return sorted((c for c in changes if after < c.at <= until), key=lambda change: change.at)

    def next_change(self, after: datetime) -> datetime | None:
        """The time of the next change; None: there is none."""
        changes = self.changes(after, after + timedelta(days=8))
        return changes[0].at if changes else None

    def _longest(self) -> timedelta:
        return timedelta(days=1, seconds=max(self.restart_s, self.login_after_s or 0))

    def _of_day(self, day: date) -> list[Change]:
        changes = []
        if self.restart_at:
            changes += _begin_and_end(day, self.restart_at, "restart", self.restart_s)
        if self.logs_out and day.weekday() == _SUNDAY:
            changes += _begin_and_end(day, LOG_OUT_AT, "logged_out", self.login_after_s)
        return changes


def _begin_and_end(day: date, at: time, fault: str, lasts_s: float | None) -> list[Change]:
    begin = datetime.combine(day, at, NEW_YORK).astimezone(UTC)
    begun = Change(begin, fault, is_begin=True)
    if lasts_s is None:
        return [begun]
    return [begun, Change(begin + timedelta(seconds=lasts_s), fault, is_begin=False)]
