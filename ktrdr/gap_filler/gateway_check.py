"""The gateway check: queries ib-connection for which gateway it is, and why there are no data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ktrdr.errors import CompetingSession, NotConnected, RequestFailed, TimedOut
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import ConnectionStatus

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
    data_back_at: datetime | None = None
    """When data became available again."""


class GatewayCheck:
    """Queries the status of ib-connection. `source`: assumed until the gateway is known."""

    def __init__(self, connection: LocalClient, source: str) -> None:
        self._connection = connection
        self.last = GatewayStatus(source)
        """The last status; its `source` is certain only once there was an answer."""

    def query(self) -> GatewayStatus:
        """The status now. PeerDown: it does not answer, or has another version."""
        self.last = _read(self._connection.request(ConnectionStatus, "GET", "/status"))
        return self.last

    def measure_clock(self) -> float | None:
        """The gateway's clock minus this machine's (s), measured now. KtrdrError: not possible."""
        offset_s: float | None = self._connection.get("/clock", _CLOCK_S)["clock_offset_s"]
        return offset_s

    def abort(self) -> None:
        """Cancel the queries that wait for answers."""
        self._connection.abort()


def _read(status: ConnectionStatus) -> GatewayStatus:
    why_not = hint = ""
    if not status.connected:
        error = status.last_error
        why_not = f"{NO_DATA}: {status.expected or (error and error.message) or status.state}"
        hint = "" if status.expected or error is None else error.hint
    return GatewayStatus(
        status.gateway,
        why_not,
        hint,
        status.requests_at_once or None,
        status.clock_offset_s,
        status.data_back_at,
    )
