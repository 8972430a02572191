"""Where the forwarder listens and from whom it accepts connections: the rules, on values."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ktrdr.errors import Misconfigured
from ktrdr.forwarder.interfaces import Interface

BRIDGES = ("docker0", "docker_gwbridge", "br-*", "podman*", "cni-podman*", "nerdctl*")
"""How Docker, Podman and nerdctl name the bridges of their networks on Linux."""
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a rule about it
LOOPBACK = 1
"""The index of Linux's loopback device, whatever its name, and of no other."""


@dataclass(frozen=True)
class Place:
    """Where to listen: on a device (empty: on any), at an address, for whom."""

    device: str
    index: int
    """The device's index: a later device of the same name has another."""
    address: str
    callers: tuple[IPv4Network, ...] | None
    """From whom connections are accepted. None: from all who reach it: this machine alone."""
    reason: str

    @property
    def key(self) -> tuple[str, int, str]:
        """What identifies its listener; the callers may change without another one."""
        return self.device, self.index, self.address

    @property
    def name(self) -> str:
        """`docker0`, or the address if there is no device."""
        return self.device or self.address

    def accepts(self, client: str) -> bool:
        """Whether it is for clients with this address."""
        return self.callers is None or any(IPv4Address(client) in one for one in self.callers)

    @property
    def whom(self) -> str:
        """From whom connections are accepted, in words."""
        if self.callers is None:
            return "this machine"
        return ", ".join(map(str, self.callers))


@dataclass(frozen=True)
class Plan:
    """All places; and a line each for what keeps clients away, and what is left out on purpose."""

    places: tuple[Place, ...]
    complaints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def places_for(
    bind: str | None,
    callers: Sequence[IPv4Network],
    found: Sequence[Interface],
    *,
    is_linux: bool = True,
) -> Plan:
    """The plan for KTRDR_FORWARD_BIND, KTRDR_FORWARD_CALLERS and the interfaces that there are.

    Misconfigured: others than this machine's containers reach the address, and no callers are
    given; or callers are given without an address.
    """
    if bind is None:
        if callers:
            raise Misconfigured(
                f"KTRDR_FORWARD_CALLERS={_listed(callers)}: expected together with"
                " KTRDR_FORWARD_BIND, the address where their connections are accepted"
            )
        return _found(found) if is_linux else _on_a_desktop()
    return _given(bind, tuple(callers), found, is_linux=is_linux)


def _on_a_desktop() -> Plan:
    reason = "Docker Desktop, Colima, Lima and Podman machine connect here for their containers"
    return Plan((Place("", 0, "127.0.0.1", None, reason),))


def _found(found: Sequence[Interface]) -> Plan:
    """The machine itself, and each container bridge."""
    places, notes = [*_this_machine(found)], []
    for bridge in found:
        if not _has_bridge_name(bridge):
            if bridge.driver == "bridge" and bridge.ports and not _why_not(bridge):
                notes.append(_unknown_bridge(bridge))
        elif why := _why_not(bridge):
            notes.append(f"not listening on {bridge.name}: {why}")
        else:
            places.append(_of_bridge(bridge, EVERYWHERE))
    return Plan(tuple(places), notes=tuple(notes))


def _this_machine(found: Sequence[Interface]) -> Iterator[Place]:
    """The loopback device, at every address: containers in the host's network use it, too."""
    for one in found:
        if one.index == LOOPBACK:
            reason = "programs and rootless containers of this machine"
            yield Place(one.name, one.index, EVERYWHERE, None, reason)
            return
    yield Place("", 0, "127.0.0.1", None, "programs of this machine")


def _of_bridge(bridge: Interface, address: str) -> Place:
    subnets = tuple(own.network for own in bridge.addresses)
    return Place(bridge.name, bridge.index, address, subnets, "a container bridge")


def _unknown_bridge(bridge: Interface) -> str:
    """The note on a bridge of another name, which may have containers or virtual machines."""
    own = bridge.addresses[0]
    return (
        f"not listening on {bridge.name}: its name is not one that Docker, Podman or nerdctl gives"
        f" a bridge; KTRDR_FORWARD_BIND={own.ip} with KTRDR_FORWARD_CALLERS={own.network} accepts"
        " connections from there, and from nowhere else"
    )


def _has_bridge_name(interface: Interface) -> bool:
    return any(fnmatch.fnmatchcase(interface.name, pattern) for pattern in BRIDGES)


def _why_not(bridge: Interface) -> str:
    """Why an interface with a container bridge's name is left out; empty: it is not."""
    if bridge.driver != "bridge":
        return f"it is no bridge of the kernel ({bridge.driver or 'of an unknown kind'})"
    if bridge.has_default_route:
        return "a default route leads through it, so not only containers are there"
    for name, driver in bridge.ports:
        if driver != "veth":
            kind = driver or "of an unknown kind"
            return f"{name} ({kind}) is attached to it, so not only containers are there"
    if not bridge.addresses:
        return "it has no IPv4 address, and IPv6 is not forwarded; give its network an IPv4 subnet"
    return ""


def _given(
    address: str, callers: tuple[IPv4Network, ...], found: Sequence[Interface], *, is_linux: bool
) -> Plan:
    """The plan for an address that is given."""
    reason = "from KTRDR_FORWARD_BIND"
    if IPv4Address(address).is_loopback:
        lo = next((one for one in found if one.index == LOOPBACK), Interface("", 0))
        return Plan((Place(lo.name, lo.index, address, None, reason),))
    owner = _owner(address, found)
    if address == EVERYWHERE or not is_linux:
        return Plan((Place("", 0, address, _expect_callers(address, callers), reason),))
    if owner is None:
        return Plan((), (f"{address} is no address of this machine now (KTRDR_FORWARD_BIND)",))
    if owner.index == LOOPBACK:
        return Plan((Place(owner.name, owner.index, address, None, reason),))
    if not callers and _has_bridge_name(owner) and not _why_not(owner):
        return Plan((_of_bridge(owner, address),))
    return Plan(
        (Place(owner.name, owner.index, address, _expect_callers(address, callers), reason),)
    )


def _owner(address: str, found: Sequence[Interface]) -> Interface | None:
    ip = IPv4Address(address)
    return next((one for one in found if any(own.ip == ip for own in one.addresses)), None)


def _expect_callers(address: str, callers: tuple[IPv4Network, ...]) -> tuple[IPv4Network, ...]:
    if not callers:
        raise Misconfigured(
            f"KTRDR_FORWARD_BIND={address}: expected also KTRDR_FORWARD_CALLERS, the subnets that"
            " may connect there (172.18.0.0/16): whoever reaches the gateway can trade. Without"
            " both, the container bridges of this machine are served, and nobody else"
        )
    return callers


def _listed(subnets: Sequence[IPv4Network]) -> str:
    return ",".join(map(str, subnets))
