"""The gateway's daily restart as in the setting; when one is expected is decided elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

USUAL_AWAY_S = 120.0
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
RESTART_RULE = "HH:MM, HH:MM Zone/Name, or never"


@dataclass(frozen=True)
class Restart:
    """The daily restart."""

    at: time
    zone: tzinfo
    away_s: float = USUAL_AWAY_S
    how_known: str = "assumed"
    """`configured`, `learnt` or `assumed`."""
    elsewhere: tuple[tuple[time, tzinfo], ...] = ()
    """The same time in other zones, while the past does not show which zone is right."""


def parse_restart(text: str, local: tzinfo) -> Restart | None:
    """The restart in a setting such as `23:45` or `23:45 America/New_York`; None: `never`.

    ValueError has what was expected.
    """
    if text.strip().lower() == "never":
        return None
    clock, _, name = text.strip().partition(" ")
    found = _CLOCK.fullmatch(clock)
    try:
        at = time(int(found[1]), int(found[2])) if found else None
        zone = ZoneInfo(name.strip()) if name else local
    except (ValueError, OSError, ZoneInfoNotFoundError):
        at = None
    if at is None:
        raise ValueError(RESTART_RULE)
    return Restart(at, zone, how_known="configured")
