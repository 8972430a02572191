"""Where the forwarder listens and whose calls it takes: the rules, as values. Asks nobody."""

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
"""Linux gives its loopback device this index, whatever anybody calls it, and no other."""


@dataclass(frozen=True)
class Place:
    """One listener to be: on a device (empty: on any), at an address, for whom."""

    device: str
    index: int
    """The device's: one of the same name that comes later is another."""
    address: str
    callers: tuple[IPv4Network, ...] | None
    """Whose calls are taken. None: whoever reaches it, which is this machine alone."""
    reason: str

    @property
    def key(self) -> tuple[str, int, str]:
        """What makes it another listener; whose calls are taken may change meanwhile."""
        return self.device, self.index, self.address

    @property
    def name(self) -> str:
        """`docker0`, or the address where no device was chosen."""
        return self.device or self.address

    def takes(self, caller: str) -> bool:
        """Whether somebody who calls from this address is served."""
        return self.callers is None or any(IPv4Address(caller) in one for one in self.callers)

    @property
    def whom(self) -> str:
        """Whose calls are taken, in words."""
        if self.callers is None:
            return "this machine"
        return ", ".join(map(str, self.callers))


@dataclass(frozen=True)
class Plan:
    """All places; in a line each, what keeps callers away, and what is left out on purpose."""

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
    """The rule, for KTRDR_FORWARD_BIND and KTRDR_FORWARD_CALLERS and what interfaces there are.

    Misconfigured: the address is one that others than this machine's containers reach, and nobody
    has said whose calls to take there; or only that was said.
    """
    if bind is None:
        if callers:
            raise Misconfigured(
                f"KTRDR_FORWARD_CALLERS={_listed(callers)}: expected together with"
                " KTRDR_FORWARD_BIND, the address where their calls are taken"
            )
        return _chosen(found) if is_linux else _on_a_desktop()
    return _given(bind, tuple(callers), found, is_linux=is_linux)


def _on_a_desktop() -> Plan:
    reason = "Docker Desktop, Colima, Lima and Podman machine pass their containers' calls on to it"
    return Plan((Place("", 0, "127.0.0.1", None, reason),))


def _chosen(found: Sequence[Interface]) -> Plan:
    """The machine itself, and each container bridge."""
    places, notes = [*_this_machine(found)], []
    for bridge in found:
        if not _is_named_as_one(bridge):
            if bridge.driver == "bridge" and bridge.ports and not _why_not(bridge):
                notes.append(_of_unknown(bridge))
        elif why := _why_not(bridge):
            notes.append(f"not listening on {bridge.name}: {why}")
        else:
            places.append(_of_bridge(bridge, EVERYWHERE))
    return Plan(tuple(places), notes=tuple(notes))


def _this_machine(found: Sequence[Interface]) -> Iterator[Place]:
    """The loopback device, at every address: containers in the host's network call by it, too."""
    for one in found:
        if one.index == LOOPBACK:
            reason = "programs and rootless containers of this machine"
            yield Place(one.name, one.index, EVERYWHERE, None, reason)
            return
    yield Place("", 0, "127.0.0.1", None, "programs of this machine")


def _of_bridge(bridge: Interface, address: str) -> Place:
    subnets = tuple(own.network for own in bridge.addresses)
    return Place(bridge.name, bridge.index, address, subnets, "a container bridge")


def _of_unknown(bridge: Interface) -> str:
    """Containers may be on it (or virtual machines of others): Docker takes any name one gives."""
    own = bridge.addresses[0]
    return (
        f"not listening on {bridge.name}: its name is not one that Docker, Podman or nerdctl gives"
        f" a bridge; KTRDR_FORWARD_BIND={own.ip} with KTRDR_FORWARD_CALLERS={own.network} takes its"
        " calls, and no others"
    )


def _is_named_as_one(interface: Interface) -> bool:
    return any(fnmatch.fnmatchcase(interface.name, pattern) for pattern in BRIDGES)


def _why_not(bridge: Interface) -> str:
    """Why an interface with a container bridge's name is not listened on; empty: it is."""
    if bridge.driver != "bridge":
        return f"it is no bridge of the kernel ({bridge.driver or 'of an unknown kind'})"
    if bridge.is_way_out:
        return "it is this machine's way out, so others than containers call there"
    for name, driver in bridge.ports:
        if driver != "veth":
            kind = driver or "of an unknown kind"
            return f"{name} ({kind}) is attached to it, so others than containers call there"
    if not bridge.addresses:
        return "it has no IPv4 address, and IPv6 is not forwarded; give its network an IPv4 subnet"
    return ""


def _given(
    address: str, callers: tuple[IPv4Network, ...], found: Sequence[Interface], *, is_linux: bool
) -> Plan:
    """What KTRDR_FORWARD_BIND says."""
    reason = "as KTRDR_FORWARD_BIND"
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
    if not callers and _is_named_as_one(owner) and not _why_not(owner):
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
            f"KTRDR_FORWARD_BIND={address}: expected also KTRDR_FORWARD_CALLERS, the subnets whose"
            " calls to take there (172.18.0.0/16): who reaches the gateway can trade. Without both,"
            " the container bridges of this machine are found, and nobody else is served"
        )
    return callers


def _listed(subnets: Sequence[IPv4Network]) -> str:
    return ",".join(map(str, subnets))
