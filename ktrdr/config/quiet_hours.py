"""The hours of the day in which only what is critical is notified of, as in the setting."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time

QUIET_RULE = "HH:MM-HH:MM on this machine's clock, such as 22:00-07:00"
_HOURS = re.compile(r"(\d{1,2}):(\d{2}) *[-–] *(\d{1,2}):(\d{2})")


@dataclass(frozen=True)
class QuietHours:
    """From one time of the day to another, over midnight if that is earlier."""

    start: time
    end: time

    def contains(self, local: datetime) -> bool:
        """Whether this moment, in this machine's zone, is in them."""
        now = local.time()
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


def parse_quiet_hours(text: str) -> QuietHours:
    """The hours in a setting such as `22:00-07:00`. ValueError has what was expected."""
    found = _HOURS.fullmatch(text.strip())
    try:
        hours = (
            QuietHours(time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4])))
            if found
            else None
        )
    except ValueError:
        hours = None
    if hours is None or hours.start == hours.end:
        raise ValueError(QUIET_RULE)
    return hours
