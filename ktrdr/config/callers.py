"""Whose calls a listener takes: from subnets that were named, or from this machine's own.

Decides on values; who calls, and what networks there are, is found out elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from ktrdr.addresses import is_from_here, plain_address

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

    @property
    def are_named(self) -> bool:
        """Whether it is for others than this machine at all."""
        return bool(self.named) or self.with_own


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
    """Whether a call is taken: from `caller`, at our address `reached`, while we are in `own`."""
    if is_from_here(caller, reached):
        return True
    networks = [*callers.named, *(own if callers.with_own else ())]
    return any(plain_address(caller) in network for network in networks)


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
