"""Gathers the facts for a diagnosis: the port, what ib-connection says, what a checkup brings."""

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
    """The facts of now; it takes a few seconds, and up to a minute with a gateway that hangs."""
    host, port = settings.gateway_host, settings.gateway_port
    seen = asyncio.run(port_probe.probe(host, port, _POLL_S))
    said, checkup, why_silent = _ask(LocalClient(settings.connection_socket, "ib-connection"))
    error = said.get("last_error") or {}
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
        state=said.get("state", ""),
        expected=said.get("expected", ""),
        expected_kind=said.get("expected_kind", ""),
        reminder=said.get("reminder", ""),
        client_id=said.get("client_id"),
        first_client_id=settings.ib_client_id,
        error_code=error.get("code"),
        error=error.get("message", ""),
        hint=error.get("hint", ""),
        foreign_text=said.get("foreign_text", ""),
        broken_farms=tuple(farm["name"] for farm in said.get("farms", ()) if not farm["up"]),
        refused=tuple(
            Refused(one["symbol"], one["outcome"], one["message"], one["hint"])
            for one in said.get("refused", ())
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


def _troubles(said: report.Report) -> tuple[str, ...]:
    """What keeps containers from the gateway, a line each."""
    troubles = *said.troubles, *(f"it takes no more calls: {line}" for line in said.full)
    if said.gateway != "not_reached":
        return troubles
    return (*troubles, f"{said.target} behind it cannot be reached: {said.gateway_why}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
