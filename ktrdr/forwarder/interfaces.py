"""The network interfaces of this machine as Linux has them now; none on other systems.

Uses only the standard library, because it must run without a .venv.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from ktrdr.forwarder.netlink import Link, default_route_links, links

_SIOCGIFCONF, _SIOCGIFNETMASK, _SIOCETHTOOL = 0x8912, 0x891B, 0x8946  # linux/sockios.h
_ETHTOOL_GDRVINFO, _DRVINFO_BYTES = 3, 196  # linux/ethtool.h
_IFREQ_BYTES = 40 if sys.maxsize > 2**32 else 32


@dataclass(frozen=True)
class Interface:
    """One interface. Its `index` is unique: a later one of the same name has another."""

    name: str
    index: int
    addresses: tuple[IPv4Interface, ...] = ()
    driver: str = ""
    """`bridge`, `veth`, `virtio_net` …; empty: none, or not known."""
    ports: tuple[tuple[str, str], ...] = ()
    """Of a bridge: name and driver of each interface attached to it, or to another bridge that is
    joined to it by a `veth` pair with both ends on this machine."""
    has_default_route: bool = False
    """A default route leads through it, or through a bridge that is joined to it."""


def interfaces() -> tuple[Interface, ...]:
    """All interfaces, sorted by index; none where this is not Linux."""
    if sys.platform != "linux":
        return ()
    names = dict(socket.if_nameindex())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        addresses = _addresses(probe)
        drivers = {index: _driver(probe, name) for index, name in names.items()}
    found, routed = links(), default_route_links()
    return tuple(
        Interface(
            name,
            index,
            tuple(addresses.get(name, ())),
            drivers[index],
            tuple((names.get(port, str(port)), drivers.get(port, "")) for port in ports),
            not routed.isdisjoint(joined),
        )
        for index, name in sorted(names.items())
        for joined, ports in [_attached(index, found)]
    )


def _attached(index: int, found: dict[int, Link]) -> tuple[set[int], list[int]]:
    """The bridges joined to one, itself included, and what is attached to any of them, by index."""
    joined, ports, to_look = {index}, [], [index]
    for bridge in to_look:
        for port, link in sorted(found.items()):
            if link.master != bridge:
                continue
            ports.append(port)
            other = found[link.peer].master if link.peer in found else 0
            if other and other not in joined:
                joined.add(other)
                to_look.append(other)
    return joined, ports


def _addresses(probe: socket.socket) -> dict[str, list[IPv4Interface]]:
    """IPv4 addresses with their subnets, by interface."""
    found: dict[str, list[IPv4Interface]] = {}
    for request in _requests(probe):
        label, address = request[:16].rstrip(b"\0"), request[20:24]
        with contextlib.suppress(OSError):  # gone in the meantime
            netmask = _ioctl(probe, _SIOCGIFNETMASK, request)[20:24]
            own = IPv4Interface(f"{IPv4Address(address)}/{IPv4Address(netmask)}")
            name = os.fsdecode(label).partition(":")[0]  # `docker0:1` is an address of docker0
            found.setdefault(name, []).append(own)
    return found


def _requests(probe: socket.socket) -> Iterator[bytes]:
    """A `struct ifreq` for each IPv4 address: the label in 16 bytes, then a `struct sockaddr`."""
    room = 64 * _IFREQ_BYTES
    while True:
        buffer = array.array("B", bytes(room))
        wanted = struct.pack("iP", room, buffer.buffer_info()[0])
        (used,) = struct.unpack_from("i", _ioctl(probe, _SIOCGIFCONF, wanted))
        if used < room:
            break
        room *= 4
    for start in range(0, used, _IFREQ_BYTES):
        yield buffer[start : start + _IFREQ_BYTES].tobytes()


def _driver(probe: socket.socket, name: str) -> str:
    info = array.array("B", bytes(_DRVINFO_BYTES))
    struct.pack_into("I", info, 0, _ETHTOOL_GDRVINFO)
    request = struct.pack("16sP", os.fsencode(name), info.buffer_info()[0])
    with contextlib.suppress(OSError):
        _ioctl(probe, _SIOCETHTOOL, request.ljust(_IFREQ_BYTES, b"\0"))
    return info[4:36].tobytes().partition(b"\0")[0].decode("ascii", "replace")


def _ioctl(probe: socket.socket, request: int, argument: bytes) -> bytes:
    import fcntl  # noqa: PLC0415  Windows has none, and must get as far as saying so

    return fcntl.ioctl(probe, request, argument)
