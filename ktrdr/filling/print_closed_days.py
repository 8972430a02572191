"""PROGRAM: prints the closed days of an exchange as JSON, and ends. Loads pandas.

`python -m ktrdr.filling.print_closed_days XNYS 2026-01-01 2026-12-31`
"""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta

import exchange_calendars


def closed_days(name: str, first: date, last: date) -> list[str]:
    """Days without a session from `first` to `last`, as far as the calendar reaches."""
    calendar = exchange_calendars.get_calendar(name, start=first.isoformat(), end=last.isoformat())
    sessions = {session.date() for session in calendar.sessions}
    until = min(last, calendar.last_session.date())
    days = (first + timedelta(days=n) for n in range((until - first).days + 1))
    return [day.isoformat() for day in days if day not in sessions]


if __name__ == "__main__":
    print(json.dumps(closed_days(sys.argv[1], *map(date.fromisoformat, sys.argv[2:4]))))  # noqa: T201
