"""Who may call the status page: what its settings mean, and what is said of it.

It shows bars and logs, and has a few buttons: so it is for this machine alone, unless somebody says
that others may reach it, and says whom it is for.
"""

from __future__ import annotations

import errno

import psutil

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
THIS_MACHINE = Callers((), with_own=False)


def page_callers(settings: Settings) -> Callers:
    """Whose calls the page takes.

    Misconfigured: it listens for others than this machine, and nothing says whom it is for.
    """
    if settings.ktrdr_status_callers:
        return parse_callers(settings.ktrdr_status_callers)
    if is_loopback(settings.ktrdr_status_host):
        return THIS_MACHINE
    if settings.status_token:
        return ANYBODY  # who knows it
    raise Misconfigured(
        f"KTRDR_STATUS_HOST={settings.ktrdr_status_host}: expected 127.0.0.1; elsewhere others"
        " reach the page: say whose calls it takes with KTRDR_STATUS_CALLERS (subnets such as"
        f" 192.168.1.0/24, or {OWN_NETWORKS}), or set KTRDR_STATUS_TOKEN"
    )


def is_not_here(error: OSError) -> bool:
    """Whether nobody can listen at an address as this machine lacks it, or its kind.

    A name may lead to others beside it: `localhost` to ::1, where there is no IPv6.
    """
    return error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def own_networks() -> list[Network]:
    """The subnets of this machine's interfaces now, that of its loopback included."""
    found = {
        network_of(address.address, address.netmask)
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
    }
    return sorted((one for one in found if one), key=lambda one: (one.version, one))


def page_is_for(settings: Settings) -> str:
    """Whom the page answers, in words: `this machine alone`."""
    known = ", with the token" if settings.status_token else ""
    if is_loopback(settings.ktrdr_status_host):
        return f"this machine alone{known}"
    if not settings.ktrdr_status_callers:
        return f"everybody who reaches {settings.ktrdr_status_host}{known}"
    callers = parse_callers(settings.ktrdr_status_callers)
    networks = [str(one) for one in callers.named]
    if callers.with_own:
        own = ", ".join(str(one) for one in own_networks() if not one.is_loopback)
        networks.append(f"the networks that it is in ({own or 'none'} at the moment)")
    return f"this machine, {', '.join(networks)}{known}"
