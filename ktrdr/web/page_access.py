"""Who may use the status page: the meaning of its settings, and their description in words.

It shows bars and logs and has a few buttons. So it is for this machine alone, unless the settings
let others reach it and name them.
"""

from __future__ import annotations

import errno

import psutil

from ktrdr.addresses import as_host_and_port
from ktrdr.config.callers import (
    OWN_NETWORKS,
    Callers,
    Network,
    is_loopback,
    network_of,
    parse_callers,
)
from ktrdr.config.settings import Settings
from ktrdr.errors import Misconfigured

ANYBODY = parse_callers("0.0.0.0/0,::/0")
_WHO = (
    "name those that may with KTRDR_STATUS_CALLERS (subnets such as 192.168.1.0/24, or"
    f" {OWN_NETWORKS}), or set KTRDR_STATUS_TOKEN"
)
THIS_MACHINE = Callers((), with_own=False)


def page_callers(settings: Settings) -> Callers:
    """Who may connect to the page.

    Misconfigured: it is to listen for others than this machine, and no setting names them.
    """
    if settings.ktrdr_status_callers:
        return parse_callers(settings.ktrdr_status_callers)
    if settings.status_proxies and not settings.status_token:
        raise Misconfigured(
            f"KTRDR_STATUS_PROXIES={settings.ktrdr_status_proxies}: expected a setting that says"
            f" whom the proxy may forward: {_WHO}"
        )
    if is_loopback(settings.ktrdr_status_host):
        return THIS_MACHINE
    if settings.status_token:
        return ANYBODY  # who knows the token
    raise Misconfigured(
        f"KTRDR_STATUS_HOST={settings.ktrdr_status_host}: expected 127.0.0.1; elsewhere others"
        f" reach the page: {_WHO}"
    )


def connecting(callers: Callers, proxies: tuple[Network, ...]) -> Callers:
    """Who may connect: the callers, and the proxies that forward them."""
    return Callers((*callers.named, *proxies), callers.with_own)


def is_not_here(error: OSError) -> bool:
    """Whether listening failed because this machine does not have the address, or its family.

    A name may have such addresses beside others: `localhost` has ::1, also without IPv6.
    """
    return error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def own_networks() -> list[Network]:
    """The subnets of this machine's interfaces now, loopback included."""
    found = {
        network_of(address.address, address.netmask)
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
    }
    return sorted((one for one in found if one), key=lambda one: (one.version, one))


def local_host(settings: Settings) -> str:
    """A host name or address at which this machine can connect to the page."""
    host = settings.ktrdr_status_host
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared


def page_url(settings: Settings) -> str:
    """The page's URL on this machine, with the first of its URLs elsewhere, if it has any."""
    local = f"http://{as_host_and_port(local_host(settings), settings.ktrdr_status_port)}/"
    return " or ".join([local, *settings.status_urls[:1]])


def page_is_for(settings: Settings) -> str:
    """Who may use the page, in words: `this machine alone`."""
    through = settings.ktrdr_status_proxies
    proxies = f", and whom the proxy at {through} forwards" if through else ""
    known = proxies + (", with the token" if settings.status_token else "")
    if is_loopback(settings.ktrdr_status_host):
        alone = "" if proxies else " alone"
        return f"this machine{alone}{known}"
    if not settings.ktrdr_status_callers:
        return f"everybody who reaches {settings.ktrdr_status_host}{known}"
    callers = parse_callers(settings.ktrdr_status_callers)
    networks = [str(one) for one in callers.named]
    if callers.with_own:
        own = ", ".join(str(one) for one in own_networks() if not one.is_loopback)
        networks.append(f"the networks that it is in ({own or 'none'} at the moment)")
    return f"this machine, {', '.join(networks)}{known}"
