"""The gateway's clock: real, or started at any instant, or faster than real. Schedules nothing.

The market follows it: bars, the current time, restarts and log-outs. What a client measures by its
own clock stays in real time: latency, limits, and how long the id of a dropped client stays in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ktrdr.errors import Misconfigured


class Clock:
    """A clock; calling it returns its time, UTC-aware."""

    def __init__(
        self,
        start: datetime | None = None,
        speed: float = 1.0,
        *,
        real: Callable[[], float] = time.time,
    ) -> None:
        """`start`: its time now, aware; None: the real time. `speed`: a multiple of real time.

        `real`: the machine's clock, in seconds since 1970.
        """
        if start is not None and start.tzinfo is None:
            raise Misconfigured(f"a clock cannot start at {start}: it needs a time zone")
        if speed <= 0:
            raise Misconfigured(
                f"a clock cannot run {speed:g} times as fast: more than 0 is needed"
            )
        self.speed = speed
        self._real = real
        self._began_s = real()
        self._start = (start or datetime.fromtimestamp(self._began_s, UTC)).astimezone(UTC)

    def __call__(self) -> datetime:
        """The current time."""
        return self._start + timedelta(seconds=(self._real() - self._began_s) * self.speed)

    def real_s(self, until: datetime) -> float:
        """Real seconds until the clock shows that time; 0 when it is past."""
        return max((until - self()).total_seconds() / self.speed, 0.0)


def parse_start(text: str) -> datetime:
    """An ISO 8601 time; without a zone it is UTC. ValueError: it is invalid."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
