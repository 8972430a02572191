"""How many connections may be open and for how long, and which one makes room. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network

from ktrdr.addresses import plain_address

_NETWORK_BITS = 64
"""An IPv6 client has a whole network of this size."""

Client = IPv4Address | IPv6Network


@dataclass(frozen=True)
class Limits:
    """What connections may do."""

    idle_s: float = 75.0
    """Between two requests. A proxy usually closes after 60 s, and should be the first to do so."""
    request_s: float = 20.0
    """From the first byte of a request to its last."""
    stalled_s: float = 60.0
    """Without a byte of the answer read."""
    per_client: int = 100
    """Connections of one client; all clients of a proxy are one."""
    most: int = 1000


LIMITS = Limits()


def client_of(address: str) -> Client:
    """Whose connection it is: an address, of IPv6 the network of one client."""
    found = plain_address(address)
    if isinstance(found, IPv4Address):
        return found
    return IPv6Network((found, _NETWORK_BITS), strict=False)


@dataclass(frozen=True)
class Neighbour:
    """What counts of a connection when there are too many."""

    client: Client
    waits_since: float
    may_be_closed: bool


def to_close(others: Sequence[Neighbour], client: Client, limits: Limits) -> int | None:
    """Which connection makes room for one more of `client`: its index in `others`.

    None: there is room. -1: there is none, and the new one has to go. The one goes that has waited
    longest for a request, of the same client if that one has too many.
    """
    own = [one for one in others if one.client == client]
    if len(own) >= limits.per_client:
        candidates = own
    elif len(others) >= limits.most:
        candidates = list(others)
    else:
        return None
    idle = [one for one in candidates if one.may_be_closed]
    if not idle:
        return -1
    return others.index(min(idle, key=lambda one: one.waits_since))
