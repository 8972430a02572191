"""Hosts, ports, subnets and URLs: read as people write them, and compared. Looks nothing up."""

from __future__ import annotations

import ipaddress
import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(https?)://([^/?#@\\\s]+)((?:/(?!\.+(?:/|$))[A-Za-z0-9._~-]+)*)/?", re.IGNORECASE
)


def read_host(text: str) -> str:
    """A host's name or address; `::1` for `[::1]` too. ValueError: it is neither."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _IPV6.fullmatch(bare) and ":" in bare:
        ipaddress.IPv6Address(bare)
    elif bare != text or not _NAME.fullmatch(bare):
        raise ValueError(text)
    return bare


def read_ipv4(text: str) -> str:
    """An IPv4 address. ValueError: it is none."""
    return str(ipaddress.IPv4Address(text))


def read_port(text: str) -> int:
    """A TCP port from 1 to 65535. ValueError: it is none."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(text)
    return int(text)


def read_host_and_port(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, an IPv6 address with or without brackets. ValueError: it is not that."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(text)
    return read_host(host), read_port(port)


def as_host_and_port(host: str, port: int) -> str:
    """`HOST:PORT`, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_subnets(text: str) -> tuple[ipaddress.IPv4Network, ...]:
    """IPv4 subnets separated by commas, such as `172.17.0.0/16,192.168.5.0/24`.

    ValueError: one is not valid, or contains half of all addresses or more.
    """
    subnets = tuple(ipaddress.IPv4Network(part.strip()) for part in text.split(","))
    if any(subnet.prefixlen < 2 for subnet in subnets):
        raise ValueError(text)
    return subnets


def plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without its zone; an IPv4-mapped IPv6 address becomes IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def is_from_here(client: str, reached: str) -> bool:
    """Whether a connection from `client` to our address `reached` comes from this machine.

    It does if `client` is a loopback address or `reached` itself, because answers to these stay
    here. That `reached` is 127.0.0.1 proves nothing: where an interface has Linux's
    `route_localnet`, machines of its network can connect to it.
    """
    address = plain_address(client)
    return address.is_loopback or address == plain_address(reached)


def read_site(url: str) -> str:
    """A URL's origin, as browsers write it, and its path without a slash at the end.

    ValueError: it has more parts, such as a query, or is none.
    """
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
    origin = f"{scheme}://{shown}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")
    return origin + found[3]


def split_site(site: str) -> tuple[str, str]:
    """Origin and path of what `read_site` has returned; the path is empty or `/ktrdr`."""
    scheme, _, place = site.partition("://")
    host, slash, path = place.partition("/")
    return f"{scheme}://{host}", slash + path
