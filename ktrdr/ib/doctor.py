"""Gather the facts for a diagnosis: the port, ib-connection's status, and a checkup."""

from __future__ import annotations

import asyncio
import ipaddress
import time

from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError
from ktrdr.forwarder import report
from ktrdr.ib import port_probe
from ktrdr.ib.diagnosis import Facts, Refused
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import Json

_POLL_S = 5.0
_CHECKUP_S = 40.0
_DOCKERS_HOST = "host.docker.internal"


def examine(settings: Settings) -> Facts:
    """The current facts; takes a few seconds, and up to a minute with an unresponsive gateway."""
    host, port = settings.gateway_host, settings.gateway_port
    seen = asyncio.run(port_probe.probe(host, port, _POLL_S))
    status, checkup, why_silent = _ask(LocalClient(settings.connection_socket, "ib-connection"))
    error = status.get("last_error") or {}
    forwarding = report.read(settings.run_dir, time.time())
    return Facts(
        host=host,
        port=port,
        is_simulated=settings.is_simulated,
        is_this_machine=_is_loopback(host),
        is_forwarded=not settings.is_simulated
        and (host == _DOCKERS_HOST or port == settings.ktrdr_forward_port),
        seen=seen.seen.value,
        seen_why=seen.why,
        version=seen.version,
        why_silent=why_silent,
        state=status.get("state", ""),
        expected=status.get("expected", ""),
        expected_kind=status.get("expected_kind", ""),
        reminder=status.get("reminder", ""),
        client_id=status.get("client_id"),
        first_client_id=settings.ib_client_id,
        error_code=error.get("code"),
        error=error.get("message", ""),
        hint=error.get("hint", ""),
        foreign_text=status.get("foreign_text", ""),
        broken_farms=tuple(farm["name"] for farm in status.get("farms", ()) if not farm["up"]),
        refused=tuple(
            Refused(one["symbol"], one["outcome"], one["message"], one["hint"])
            for one in status.get("refused", ())
        ),
        clock_offset_s=checkup.get("clock_offset_s"),
        is_read_only=checkup.get("is_read_only"),
        forwarding="" if forwarding is None else f"port {forwarding.port} on {forwarding.takes}",
        forwarding_troubles=() if forwarding is None else _troubles(forwarding),
        data=checkup.get("data", ""),
        data_why=checkup.get("message", ""),
    )


def _ask(connection: LocalClient) -> tuple[Json, Json, str]:
    """The status, the checkup, and why there is no status."""
    try:
        checkup = connection.post("/checkup", timeout_s=_CHECKUP_S)
    except KtrdrError as error:
        checkup = {"data": error.outcome, "message": error.message}
    try:
        return connection.get("/status"), checkup, ""
    except KtrdrError as error:
        return {}, {}, error.message


def _troubles(status: report.Report) -> tuple[str, ...]:
    """Problems that keep containers from the gateway, a line each."""
    troubles = *status.troubles, *(f"it takes no more calls: {line}" for line in status.full)
    if status.gateway != "not_reached":
        return troubles
    return (*troubles, f"{status.target} behind it cannot be reached: {status.gateway_why}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
