"""The state of the gateway's port, as one probe finds it. Opens no connection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RESET = "reset"
"""The reason when a connection is reset, as the forwarder does to clients that it rejects."""

OLDEST_VERSION = 157
"""The oldest protocol version that is spoken (both libraries, `Client.MinClientVersion`)."""


class PortState(StrEnum):
    """The state of the port as a probe found it."""

    CLOSED = "closed"
    """Connections are refused, or the host is unknown."""
    UNREACHABLE = "unreachable"
    """No response at all."""
    CLOSES = "closes"
    """Accepted, and closed during the handshake."""
    UNRESPONSIVE = "unresponsive"
    FOREIGN = "foreign"
    """A program other than a gateway responds."""
    OUTDATED = "outdated"
    """A gateway whose protocol is older than any that is spoken."""
    GREETED = "greeted"


@dataclass(frozen=True)
class PortProbe:
    """The result of one probe."""

    state: PortState
    why: str = ""
    """The system's error text, or the data received."""
    version: int | None = None
    """The protocol version that the gateway offers."""
