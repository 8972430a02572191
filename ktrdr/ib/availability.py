"""Availability of data: signals for those who wait for data, and the times of recent trouble."""

from __future__ import annotations

from collections import deque

from ktrdr.ib.signals import Signal

_BACKS_KEPT = 100


class Availability:
    """For one event loop. All times are of its clock."""

    def __init__(self) -> None:
        self.repeat = Signal()
        """Requests in flight will not be answered, and should be sent again."""
        self._farm_backs: deque[float] = deque(maxlen=_BACKS_KEPT)
        self._lost_until = float("-inf")

    def __repr__(self) -> str:
        return f"Availability(lost until {self._lost_until:.1f})"

    def repeat_requests(self, now: float) -> None:
        """IB's servers were away until now: requests sent meanwhile were lost."""
        self._lost_until = now
        self.repeat.send()

    def note_farm_back(self, now: float) -> None:
        """A data farm is back, as a notice or an answer shows."""
        self._farm_backs.append(now)

    def was_lost_after(self, time: float) -> bool:
        """Whether IB's servers were away at any moment after `time`."""
        return self._lost_until >= time

    def farm_back_after(self, time: float) -> float | None:
        """When a data farm first came back after `time`; None: none did."""
        return next((back for back in self._farm_backs if back >= time), None)
