"""How often each program was started again, as far as that was seen."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ktrdr.health.programs import NAMES, Program

_SAME_S = 1.0
"""Times of one start differ by less: the system's clock is set meanwhile, a little at a time."""


class Restarts:
    """Counts new processes of the programs between two readings. Thread-safe.

    Several restarts between two readings count as one, for only the last start is known.
    """

    def __init__(self) -> None:
        self._started: dict[str, tuple[int | None, float]] = {}
        self._counts = dict.fromkeys(NAMES, 0)
        self._lock = threading.Lock()

    def counts(self, programs: Mapping[str, Program]) -> dict[str, int]:
        """Restarts of each program since the first reading, this one included."""
        with self._lock:
            for name, program in programs.items():
                if program.started is None:
                    continue
                before, now = self._started.get(name), (program.pid, program.started)
                if before and (before[0] != now[0] or now[1] - before[1] > _SAME_S):
                    self._counts[name] += 1
                self._started[name] = now
            return dict(self._counts)
