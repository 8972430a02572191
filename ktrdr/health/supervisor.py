"""The state of supervisord's programs, over XML-RPC. Starts and stops nothing."""

from __future__ import annotations

import contextlib
import xmlrpc.client
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from ktrdr.config.running_group import FOLDER, running_group
from ktrdr.errors import Misconfigured
from ktrdr.unix_http import HTTP_ERRORS, UnixConnection

_TIMEOUT_S = 1.0


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
