"""Links and default routes as Linux reports them over rtnetlink, to any user. Changes nothing.

It reports the network namespace of this process. `/sys/class/net` may be that of another one, or
missing: then a bridge would seem to have nothing attached.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_DONE, _ERROR = 3, 2  # linux/netlink.h
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_NEWLINK, _GETLINK, _NEWROUTE, _GETROUTE = 16, 18, 24, 26  # linux/rtnetlink.h
_IFLA_LINK, _IFLA_MASTER, _IFLA_LINK_NETNSID = 5, 10, 37  # linux/if_link.h
_RTA_OIF, _RTA_MULTIPATH, _UNICAST = 4, 9, 1
_LINK_BYTES, _ROUTE_BYTES, _NEXTHOP_BYTES = 16, 12, 8
_HEADER = struct.Struct("=IHHII")
_ROOM = 2**18
_LONGEST = {int(socket.AF_INET): 1, int(socket.AF_INET6): 3}
"""The longest prefixes that count as default routes: halves of IPv4, and IPv6's 2000::/3."""


class Link(NamedTuple):
    """The indexes of the interfaces that one is connected with in this namespace; 0: none."""

    master: int
    """The bridge (bond, switch …) that it is attached to."""
    peer: int
    """The other end of a `veth` pair; 0 if it is in another namespace, such as a container's."""


def links() -> dict[int, Link]:
    """All interfaces by index. OSError: Linux does not report them."""
    found = {}
    for message in _dump(_GETLINK, _NEWLINK, _LINK_BYTES):
        (index,) = struct.unpack_from("=i", message, 4)
        attributes = dict(_attributes(message[_LINK_BYTES:]))
        is_elsewhere = _IFLA_LINK_NETNSID in attributes
        peer = 0 if is_elsewhere else _number(attributes.get(_IFLA_LINK))
        found[index] = Link(_number(attributes.get(_IFLA_MASTER)), peer)
    return found


def default_route_links() -> frozenset[int]:
    """Indexes of the interfaces with a default route, in any table, IPv6 included."""
    return frozenset(
        index
        for message in _dump(_GETROUTE, _NEWROUTE, _ROUTE_BYTES)
        if message[7] == _UNICAST and message[1] <= _LONGEST.get(message[0], -1)
        for index in _interfaces_of(message)
    )


def _interfaces_of(route: bytes) -> Iterator[int]:
    for kind, value in _attributes(route[_ROUTE_BYTES:]):
        if kind == _RTA_OIF:
            yield _number(value)
        while kind == _RTA_MULTIPATH and len(value) >= _NEXTHOP_BYTES:
            length, _, _, index = struct.unpack_from("=HBBi", value)
            yield index
            value = value[max(length, _NEXTHOP_BYTES) :]  # noqa: PLW2901


def _dump(request: int, answer: int, body_bytes: int) -> Iterator[bytes]:
    """The bodies of all messages in the response."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        header = _HEADER.pack(_HEADER.size + body_bytes, request, _DUMP, 1, 0)
        netlink.send(header + bytes(body_bytes))
        while True:
            received, at = netlink.recv(_ROOM), 0
            while at + _HEADER.size <= len(received):
                length, kind, _, _, _ = _HEADER.unpack_from(received, at)
                body = received[at + _HEADER.size : at + length]
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    (number,) = struct.unpack_from("=i", body)
                    raise OSError(-number, os.strerror(-number))
                if kind == answer:
                    yield body
                at += max(_padded(length), _HEADER.size)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += max(_padded(length), 4)


def _number(value: bytes | None) -> int:
    return struct.unpack("=I", value)[0] if value else 0


def _padded(length: int) -> int:
    return (length + 3) & ~3
