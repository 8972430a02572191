"""The ids of connected clients, and of those dropped a moment ago. No I/O, no clock."""

from __future__ import annotations

from typing import Generic, TypeVar

from ktrdr.sim.gateway import refusals
from ktrdr.sim.gateway.limits import Limits, Violation

T = TypeVar("T")


class Clients(Generic[T]):
    """Client ids and the connections that have them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connected: dict[int, T] = {}
        self._lingering: dict[int, float] = {}

    @property
    def ids(self) -> list[int]:
        """The ids of the clients that are connected, in ascending order."""
        return sorted(self._connected)

    def admit(self, client_id: int, connection: T, now_s: float) -> Violation | None:
        """Give the connection its id, or return the violation: 326, or one client too many."""
        self._lingering = {i: until_s for i, until_s in self._lingering.items() if until_s > now_s}
        if client_id in self._connected or client_id in self._lingering:
            return Violation("id_in_use", refusals.id_in_use(), is_end=True)
        if len(self._connected) >= (self._limits.clients or 1 << 30):
            return Violation("clients", is_end=True)
        self._connected[client_id] = connection
        return None

    def leave(self, client_id: int, now_s: float, *, was_dropped: bool) -> None:
        """Free an id; that of a dropped client stays in use for a while."""
        del self._connected[client_id]
        if was_dropped and self._limits.id_lingers_s:
            self._lingering[client_id] = now_s + self._limits.id_lingers_s
