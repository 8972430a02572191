"""The facts for a diagnosis, gathered from the port, ib-connection and port-forward."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ktrdr.config.callers import is_loopback
from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError
from ktrdr.forwarder import report
from ktrdr.ib import port_probe
from ktrdr.ib.diagnosis import Facts
from ktrdr.ib.port_state import PortProbe
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import ConnectionStatus, TrialResult

_PROBE_S = 5.0
_TRIAL_S = 40.0
_DOCKERS_HOST = "host.docker.internal"


def gather_facts(settings: Settings) -> Facts:
    """The current facts; takes a few seconds, and up to a minute with an unresponsive gateway."""
    host, port = settings.gateway_host, settings.gateway_port
    probe = asyncio.run(port_probe.probe(host, port, _PROBE_S))
    connection = LocalClient(settings.connection_socket, "ib-connection")
    trial = _trial(connection)
    status, why_silent = _status(connection)
    forwarding = report.read(settings.run_dir, time.time())
    return Facts(
        host=host,
        port=port,
        is_simulated=settings.is_simulated,
        is_this_machine=is_loopback(host),
        is_forwarded=not settings.is_simulated
        and (host == _DOCKERS_HOST or port == settings.ktrdr_forward_port),
        first_client_id=settings.ib_client_id,
        probe=probe,
        status=status,
        why_silent=why_silent,
        trial=trial,
        forwarding="" if forwarding is None else f"port {forwarding.port} on {forwarding.takes}",
        forwarding_troubles=() if forwarding is None else _troubles(forwarding),
    )


def probe_ports(host: str, ports: Sequence[int]) -> dict[int, PortProbe]:
    """One handshake with each port of a host, all at once. No log-in, and no client id is taken."""

    async def probe_all() -> list[PortProbe]:
        return await asyncio.gather(*(port_probe.probe(host, port, _PROBE_S) for port in ports))

    return dict(zip(ports, asyncio.run(probe_all()), strict=True))


def facts_of_port(host: str, port: int, probe: PortProbe, *, is_forwarded: bool) -> Facts:
    """The facts about a port, where there is no group yet."""
    return Facts(
        host=host,
        port=port,
        is_simulated=False,
        is_this_machine=is_loopback(host),
        is_forwarded=is_forwarded or host == _DOCKERS_HOST,
        first_client_id=1,
        probe=probe,
        status=None,
        why_silent="",
        trial=TrialResult(None, None, "", "", "", ""),
        forwarding="",
        forwarding_troubles=(),
    )


def _trial(connection: LocalClient) -> TrialResult:
    try:
        return connection.request(TrialResult, "POST", "/trial", _TRIAL_S)
    except KtrdrError as error:
        return TrialResult(None, None, error.outcome, error.outcome, "", error.message)


def _status(connection: LocalClient) -> tuple[ConnectionStatus | None, str]:
    """The status; or None, and the reason."""
    try:
        return connection.request(ConnectionStatus, "GET", "/status"), ""
    except KtrdrError as error:
        return None, error.message


def _troubles(status: report.Report) -> tuple[str, ...]:
    """Problems that keep containers from the gateway, a line each."""
    full = (f"it accepts no more connections: {line}" for line in status.full)
    troubles = (*status.troubles, *full)
    if not status.misses_gateway:
        return troubles
    return (*troubles, f"{status.target} behind it cannot be reached: {status.gateway_why}")
