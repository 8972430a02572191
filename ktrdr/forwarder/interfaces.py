"""The network interfaces of this machine, asked of Linux now; elsewhere none are told.

With nothing but the standard library, for what must run without a .venv.
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
from pathlib import Path

_SIOCGIFCONF, _SIOCGIFNETMASK, _SIOCETHTOOL = 0x8912, 0x891B, 0x8946  # linux/sockios.h
_ETHTOOL_GDRVINFO, _DRVINFO_BYTES = 3, 196  # linux/ethtool.h
_IFREQ_BYTES = 40 if sys.maxsize > 2**32 else 32
_ROUTES = Path("/proc/net/route")
_SYSFS = Path("/sys/class/net")


@dataclass(frozen=True)
class Interface:
    """One interface. `index` is its own: one of the same name that comes later has another."""

    name: str
    index: int
    addresses: tuple[IPv4Interface, ...] = ()
    driver: str = ""
    """`bridge`, `veth`, `virtio_net` …; empty: it has none, or does not tell."""
    ports: tuple[tuple[str, str], ...] = ()
    """Of a bridge: name and driver of what is attached to it."""
    is_way_out: bool = False
    """The default route leads through it."""


def interfaces() -> tuple[Interface, ...]:
    """All of them, sorted by index; none where this is not Linux."""
    if sys.platform != "linux":
        return ()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        addresses = _addresses(probe)
        drivers = {name: _driver(probe, name) for _, name in socket.if_nameindex()}
    ways_out = set(_ways_out())
    return tuple(
        Interface(
            name,
            index,
            tuple(addresses.get(name, ())),
            drivers.get(name, ""),
            tuple((port, drivers.get(port, "")) for port in _ports(name)),
            name in ways_out,
        )
        for index, name in sorted(socket.if_nameindex())
    )


def _addresses(probe: socket.socket) -> dict[str, list[IPv4Interface]]:
    """IPv4 addresses with their subnets, by interface."""
    found: dict[str, list[IPv4Interface]] = {}
    for request in _requests(probe):
        label, address = request[:16].rstrip(b"\0"), request[20:24]
        with contextlib.suppress(OSError):  # it went meanwhile
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


def _ports(name: str) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(port.name for port in (_SYSFS / name / "brif").iterdir())
    return []


def _ways_out() -> Iterator[str]:
    """The interfaces of default routes: destination and mask are nothing but zeros."""
    with contextlib.suppress(OSError):
        for line in _ROUTES.read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 7 and int(fields[1], 16) == int(fields[7], 16) == 0:
                yield fields[0]


def _ioctl(probe: socket.socket, request: int, argument: bytes) -> bytes:
    import fcntl  # noqa: PLC0415  Windows has none, and must be able to say so

    return fcntl.ioctl(probe, request, argument)
