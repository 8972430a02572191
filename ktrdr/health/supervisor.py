"""The programs of supervisord, over XML-RPC: their state, and how they are started and stopped."""

from __future__ import annotations

import contextlib
import xmlrpc.client
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from ktrdr.config.running_group import FOLDER, running_group
from ktrdr.errors import Misconfigured, PeerDown, ProgramRefused
from ktrdr.unix_http import HTTP_ERRORS, UnixConnection

ACTIONS = ("start", "stop", "restart")
"""What may be done to a program."""

_TIMEOUT_S = 1.0
_CONTROL_TIMEOUT_S = 5.0
_NOTHING_TO_DO = (60, 70)
"""supervisord's faults: it is started already, or not running."""


@dataclass(frozen=True)
class Supervised:
    """A program as supervisord knows it."""

    status: str
    """supervisord's state: `RUNNING`, `STOPPED`, `BACKOFF`, `FATAL`, `EXITED`, …"""
    pid: int | None
    ever_started: bool
    log: Path | None = field(default=None, compare=False)
    """Its log file."""


def find_supervisor(run_dir: Path) -> Path:
    """The socket of the supervisord that runs the programs of a run folder, if one does.

    scripts/up has it listen in `var/run`, whatever the run folder is.
    """
    with contextlib.suppress(Misconfigured, PermissionError):
        group = running_group()
        if group is not None and group.settings.run_dir == run_dir:
            return FOLDER / "supervisor.sock"
    return run_dir / "supervisor.sock"


def query_supervisor(path: Path, timeout_s: float = _TIMEOUT_S) -> dict[str, Supervised]:
    """Every program that supervisord knows; empty if it does not answer in time."""
    transport = UnixTransport(path, timeout_s)
    try:
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        return _read(proxy.supervisor.getAllProcessInfo())
    except (*HTTP_ERRORS, xmlrpc.client.Error, ExpatError):
        return {}
    finally:
        transport.close()


def control(path: Path, name: str, action: str) -> None:
    """Do one of ACTIONS to a program; the end of it is not waited for.

    A program that is restarted is told to end, and supervisord starts whatever has ended: so the
    one that asks may be restarted too. ProgramRefused: supervisord refuses. PeerDown: it does not
    answer.
    """
    transport = UnixTransport(path, _CONTROL_TIMEOUT_S)
    try:
        supervisor = xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor
        if action == "start":
            supervisor.startProcess(name, False)
        elif action == "stop":
            supervisor.stopProcess(name, False)
        else:
            supervisor.signalProcess(name, "TERM")
    except xmlrpc.client.Fault as fault:
        if action == "restart" or fault.faultCode not in _NOTHING_TO_DO:
            raise ProgramRefused(
                f"supervisord does not {action} {name}: {fault.faultString}",
                hint=f".venv/bin/supervisorctl status {name} shows its state",
            ) from fault
    except (*HTTP_ERRORS, xmlrpc.client.Error, ExpatError) as error:
        raise PeerDown("supervisord does not answer", hint="./scripts/up starts it") from error
    finally:
        transport.close()


def _read(response: Any) -> dict[str, Supervised]:
    try:
        return {
            str(one["name"]): Supervised(
                status=str(one["statename"]),
                pid=int(one["pid"]) or None,
                ever_started=bool(one["start"]),
                log=Path(one["logfile"]) if one.get("logfile") else None,
            )
            for one in response
        }
    except (KeyError, TypeError, ValueError):
        return {}


class UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket with a time-out, which supervisor's own transport lacks."""

    def __init__(self, path: Path, timeout_s: float | None) -> None:
        """`timeout_s`: how long to wait for supervisord; None: for ever."""
        super().__init__()
        self._opened = UnixConnection(path, timeout_s)

    def make_connection(self, host: Any) -> UnixConnection:  # noqa: ARG002 - one only
        """The one connection."""
        return self._opened

    def close(self) -> None:
        """Close the connection."""
        self._opened.close()
