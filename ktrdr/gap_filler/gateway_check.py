"""The gateway check: queries ib-connection for which gateway it is, and why there are no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktrdr.errors import CompetingSession, NotConnected, RequestFailed, TimedOut
from ktrdr.ipc.client import LocalClient

NO_DATA = "no data from IB"
FOR_WANT_OF_DATA = (RequestFailed, TimedOut, NotConnected, CompetingSession)
"""Errors of requests while IB has no data at all."""
_CLOCK_S = 15.0
"""Timeout for the gateway's time."""


@dataclass(frozen=True)
class GatewayStatus:
    """The parts of `GET /status` that matter here."""

    source: str
    """`live` or `simulated`."""
    why_not: str = ""
    """Why there are no data; empty: there are."""
    hint: str = ""
    """What a person can do about that."""
    at_once: int | None = None
    """How many requests may be under way; None: not known."""
    clock_offset_s: float | None = None
    """The gateway's clock minus this machine's."""
    data_back_at: str | None = None
    """When data became available again."""


class GatewayCheck:
    """Queries the status of ib-connection. `source`: assumed until the gateway is known."""

    def __init__(self, connection: LocalClient, source: str) -> None:
        self._connection = connection
        self.last = GatewayStatus(source)
        """The last status; its `source` is certain only once there was an answer."""

    def query(self) -> GatewayStatus:
        """The status now. PeerDown: it does not answer."""
        self.last = _read(self._connection.get("/status"))
        return self.last

    def measure_clock(self) -> float | None:
        """The gateway's clock minus this machine's (s), measured now. KtrdrError: not possible."""
        offset_s: float | None = self._connection.get("/clock", _CLOCK_S)["clock_offset_s"]
        return offset_s

    def abort(self) -> None:
        """Cancel the queries that wait for answers."""
        self._connection.abort()


def _read(status: Mapping[str, Any]) -> GatewayStatus:
    error = status.get("last_error") or {}
    why_not = hint = ""
    if not status.get("connected"):
        why = status.get("expected") or error.get("message") or status.get("state")
        why_not = f"{NO_DATA}: {why}"
        hint = "" if status.get("expected") else str(error.get("hint") or "")
    at_once = status.get("requests_at_once")
    return GatewayStatus(
        str(status.get("gateway")),
        why_not,
        hint,
        int(at_once) if at_once else None,
        status.get("clock_offset_s"),
        status.get("data_back_at"),
    )
