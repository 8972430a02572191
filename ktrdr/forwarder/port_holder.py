"""The program that listens on a TCP port of this machine, as far as this user may see it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_UNKNOWN = "a program that this user may not see"


def holder_of(port: int) -> str:
    """Its command line and pid; without psutil, which is in the .venv, just "another program"."""
    try:
        import psutil  # noqa: PLC0415  the forwarder runs without it, too
    except ImportError:
        return "another program"
    for running in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if port in listening_ports(running):
                command = " ".join(" ".join(running.cmdline()).split()) or running.name()
                return f"{command[:80]} (pid {running.pid})"
    return _UNKNOWN


def listening_ports(running: psutil.Process) -> set[int]:
    """The TCP ports that a process listens on; none where this user may not see them."""
    import psutil  # noqa: PLC0415

    with contextlib.suppress(psutil.Error):
        connections = running.net_connections("tcp")
        return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
    return set()
