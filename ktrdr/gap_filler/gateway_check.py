"""The gateway check: queries ib-connection for which gateway it is, and why there are no data."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime

from ktrdr.errors import (
    CompetingSession,
    NotConnected,
    PacingViolation,
    RequestFailed,
    TimedOut,
)
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import ConnectionStatus

NO_DATA = "no data from IB"
FOR_WANT_OF_DATA = (RequestFailed, TimedOut, NotConnected, CompetingSession, PacingViolation)
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
    refused: frozenset[str] = frozenset()
    """The symbols of the contracts that it lists as refused by IB."""


class GatewayCheck:
    """Queries the status of ib-connection. `source`: assumed until the gateway is known."""

    def __init__(self, connection: LocalClient, source: str) -> None:
        self._connection = connection
        self.last = GatewayStatus(source)
        """The last status; its `source` is certain only once there was an answer."""
        self._kept: frozenset[str] = frozenset()

    def query(self) -> GatewayStatus:
        """The status now. PeerDown: it does not answer, or has another version."""
        self.last = _read(self._connection.request(ConnectionStatus, "GET", "/status"))
        return self.last

    def measure_clock(self) -> float | None:
        """The gateway's clock minus this machine's (s), measured now. KtrdrError: not possible."""
        offset_s: float | None = self._connection.get("/clock", _CLOCK_S)["clock_offset_s"]
        return offset_s

    def withdraw_refusals(self, kept: AbstractSet[str]) -> None:
        """Have contracts listed as refused no longer, unless they are of these symbols.

        KtrdrError: it does not answer; the next query lists them again.
        """
        if not self._kept <= kept:  # one of those that are gone may have been refused lately
            self.query()
        self._kept = frozenset(kept)
        unkept = sorted(self.last.refused - kept)
        self.last = replace(self.last, refused=self.last.refused & kept)
        for symbol in unkept:
            self._connection.delete("/refused", symbol=symbol)

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
        frozenset(one.symbol for one in status.refused),
    )
