"""Whose calls a listener takes: from subnets that were named, or from this machine's own.

Decides on values; who calls, and what networks there are, is found out elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

Network = IPv4Network | IPv6Network

OWN_NETWORKS = "own-networks"
"""The word for the subnets of this machine's own interfaces, as they are when somebody calls."""

CALLERS_RULE = f"subnets such as 192.168.1.0/24, separated by commas, or {OWN_NETWORKS}"


@dataclass(frozen=True)
class Callers:
    """Subnets whose calls are taken. This machine's own calls are taken as well."""

    named: tuple[Network, ...]
    with_own: bool
    """The networks that this machine is in, too."""


def parse_callers(text: str) -> Callers:
    """`192.168.1.0/24,fd00::/64` or `own-networks`, or both. ValueError: it is not that.

    An address counts as a subnet of one. One with a mask that leaves bits over, `192.168.1.5/24`,
    could mean either, and is refused.
    """
    words = [word.strip() for word in text.split(",")]
    try:
        named = tuple(ip_network(word) for word in words if word != OWN_NETWORKS)
    except ValueError:
        raise ValueError(CALLERS_RULE) from None
    return Callers(named, OWN_NETWORKS in words)


def is_taken(callers: Callers, caller: str, reached: str, own: Iterable[Network]) -> bool:
    """Whether a call is taken: from `caller`, at our address `reached`, while we are in `own`.

    From the address that was called means from this machine: no answer reaches anybody else.
    """
    address, here = plain_address(caller), plain_address(reached)
    if address.is_loopback or address == here:
        return True
    networks = [*callers.named, *(own if callers.with_own else ())]
    return any(address in network for network in networks)


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """An address without its zone; the older kind for one that is told in the newer."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def network_of(address: str, mask: str | None) -> Network | None:
    """The subnet of an interface's address; None: it has none, or it would be everybody."""
    try:
        bits = f"/{int(ip_address(mask)).bit_count()}" if mask else ""
        found = ip_interface(address.partition("%")[0] + bits).network
    except ValueError:
        return None
    return found if found.prefixlen else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can call there, as far as the host's name tells."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
