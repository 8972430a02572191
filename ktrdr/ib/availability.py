"""Availability of data: word for those who wait for them, and when there was trouble."""

from __future__ import annotations

from collections import deque

from ktrdr.ib.signals import Signal

_BACKS_KEPT = 100


class Availability:
    """On one event loop, whose clock all times are of."""

    def __init__(self) -> None:
        self.repeat = Signal()
        """What is under way will not be answered, and should be requested again."""
        self.data_back = Signal()
        """Data can be had again, or a farm that they come from is back."""
        self._farm_backs: deque[float] = deque(maxlen=_BACKS_KEPT)
        self._lost_until = float("-inf")

    def __repr__(self) -> str:
        return f"Availability(lost until {self._lost_until:.1f})"

    def repeat_requests(self, now: float) -> None:
        """IB's servers were away until now: what was requested meanwhile went astray."""
        self._lost_until = now
        self.repeat.send()

    def note_farm_back(self, now: float) -> None:
        """A farm that data come from is back, by a notice or because it answers."""
        self._farm_backs.append(now)

    def was_lost_after(self, time: float) -> bool:
        """IB's servers were away at some time after that."""
        return self._lost_until >= time

    def farm_back_after(self, time: float) -> float | None:
        """When, after that time, a farm that bars come from came back first; None: none did."""
        return next((back for back in self._farm_backs if back >= time), None)
