"""The callers of a listener: who may connect, from named subnets or this machine's own networks.

Decides on values; which networks there are is found out elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from ktrdr.addresses import is_from_here, plain_address

Network = IPv4Network | IPv6Network

OWN_NETWORKS = "own-networks"
"""Stands for the subnets of this machine's interfaces at the moment of a connection."""

CALLERS_RULE = f"subnets such as 192.168.1.0/24, separated by commas, or {OWN_NETWORKS}"


PROXIES_RULE = "addresses or subnets of proxies, such as 127.0.0.1,172.18.0.0/16"


@dataclass(frozen=True)
class Callers:
    """The subnets that may connect. This machine itself always may."""

    named: tuple[Network, ...]
    with_own: bool
    """Also the networks that this machine is in."""

    @property
    def are_named(self) -> bool:
        """Whether others than this machine may connect."""
        return bool(self.named) or self.with_own


def parse_callers(text: str) -> Callers:
    """Read `192.168.1.0/24,fd00::/64`, `own-networks`, or both. ValueError: it is neither.

    An address counts as a subnet of one. An address with a shorter mask, `192.168.1.5/24`, could
    mean either, and is refused.
    """
    words = [word.strip() for word in text.split(",")]
    try:
        named = tuple(ip_network(word) for word in words if word != OWN_NETWORKS)
    except ValueError:
        raise ValueError(CALLERS_RULE) from None
    return Callers(named, OWN_NETWORKS in words)


def parse_proxies(text: str) -> tuple[Network, ...]:
    """Read `127.0.0.1,172.18.0.0/16`. ValueError: it is not that, or half of all addresses."""
    try:
        found = tuple(ip_network(word.strip()) for word in text.split(","))
    except ValueError:
        raise ValueError(PROXIES_RULE) from None
    if any(network.prefixlen < 2 for network in found):
        raise ValueError(PROXIES_RULE)
    return found


def may_connect(callers: Callers, client: str, reached: str, own: Iterable[Network]) -> bool:
    """Whether `client` may connect to our address `reached` while we are in the networks `own`."""
    if is_from_here(client, reached):
        return True
    networks = [*callers.named, *(own if callers.with_own else ())]
    return any(plain_address(client) in network for network in networks)


def network_of(address: str, mask: str | None) -> Network | None:
    """The subnet of an interface's address; None: it has none, or it is the whole internet."""
    try:
        bits = f"/{int(ip_address(mask)).bit_count()}" if mask else ""
        found = ip_interface(address.partition("%")[0] + bits).network
    except ValueError:
        return None
    return found if found.prefixlen else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a host, as far as its name shows."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
