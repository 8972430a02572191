"""PROGRAM: prints the closed days of exchanges as JSON, and ends. Loads pandas.

`python -m ktrdr.filling.print_closed_days XNYS 2026 2026 CMES 2025 2026`
"""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta

import exchange_calendars


def closed_days(name: str, first_year: int, last_year: int) -> list[str] | None:
    """Days without a session in these years, as far as the calendar reaches; None: it does not."""
    first, last = date(first_year, 1, 1), date(last_year, 12, 31)
    try:
        calendar = exchange_calendars.get_calendar(
            name, start=first.isoformat(), end=last.isoformat()
        )
    except (ValueError, exchange_calendars.errors.CalendarError) as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
        return None
    sessions = {session.date() for session in calendar.sessions}
    until = min(last, calendar.last_session.date())
    days = (first + timedelta(days=n) for n in range((until - first).days + 1))
    return [day.isoformat() for day in days if day not in sessions]


if __name__ == "__main__":
    wanted = zip(sys.argv[1::3], map(int, sys.argv[2::3]), map(int, sys.argv[3::3]), strict=True)
    print(json.dumps([closed_days(*one) for one in wanted]))  # noqa: T201
