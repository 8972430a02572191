"""Hosts, ports and subnets: read as people write them, and compared. Looks nothing up."""

from __future__ import annotations

import ipaddress
import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?#@\\\s]+)/?", re.IGNORECASE)


def read_host(text: str) -> str:
    """A host's name or address; `::1` for `[::1]` too. ValueError: it is neither."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _IPV6.fullmatch(bare) and ":" in bare:
        ipaddress.IPv6Address(bare)
    elif bare != text or not _NAME.fullmatch(bare):
        raise ValueError(text)
    return bare


def read_port(text: str) -> int:
    """A TCP port from 1 to 65535. ValueError: it is none."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(text)
    return int(text)


def read_host_and_port(text: str) -> tuple[str, int]:
    """`HOST:PORT`, an IPv6 address with brackets or without. ValueError: it is not that."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(text)
    return read_host(host), read_port(port)


def as_host_and_port(host: str, port: int) -> str:
    """Both in one, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_subnets(text: str) -> tuple[ipaddress.IPv4Network, ...]:
    """IPv4 subnets separated by commas, such as `172.17.0.0/16,192.168.5.0/24`.

    ValueError: one is none, or stands for half of all addresses or more.
    """
    subnets = tuple(ipaddress.IPv4Network(part.strip()) for part in text.split(","))
    if any(subnet.prefixlen < 2 for subnet in subnets):
        raise ValueError(text)
    return subnets


def plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without its zone; IPv4 for an IPv4-mapped IPv6 address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def is_from_here(caller: str, reached: str) -> bool:
    """Whether a call from `caller`, accepted at the address `reached`, is this machine's own.

    That is so from a loopback address and from the one that was called: no answer to these reaches
    anybody else. Who calls at 127.0.0.1 need not be: where a network's interface has Linux's
    `route_localnet`, its machines reach what listens there.
    """
    address = plain_address(caller)
    return address.is_loopback or address == plain_address(reached)


def read_origin(url: str) -> str:
    """Scheme, host and port of a URL as a browser's Origin has them. ValueError: it has more."""
    found = _URL.fullmatch(url)
    if not found:
        raise ValueError(url)
    scheme, place = found[1].lower(), found[2].lower()
    has_port = re.fullmatch(r"(\[.*\]|[^:]*):[0-9]+", place)
    host, port = (
        read_host_and_port(place) if has_port else (read_host(place), _DEFAULT_PORTS[scheme])
    )
    if ":" in host and not place.startswith("["):
        raise ValueError(url)
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")
