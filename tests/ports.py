"""Ports for servers of tests: free, and none handed out twice, nor to two runs at a time."""

from __future__ import annotations

import contextlib
import getpass
import random
import socket
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

_BELOW_EPHEMERAL = range(20_000, 32_000)
"""Where no outgoing connection and no server on port 0 gets its port."""
_CLAIMS = Path(tempfile.gettempdir()) / f"ktrdr-test-ports-{getpass.getuser()}"
"""A lock for each port: whoever has it may use the port."""
_handed_out: dict[int, FileLock] = {}
"""Held until this run ends."""


def free_port() -> int:
    """A loopback port on which nobody listens, and that nobody else was given."""
    _CLAIMS.mkdir(exist_ok=True)
    while True:
        port = random.choice(_BELOW_EPHEMERAL)
        if port in _handed_out:
            continue
        claim = FileLock(_CLAIMS / f"{port}.lock")
        with contextlib.suppress(Timeout):
            claim.acquire(blocking=False)
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                _handed_out[port] = claim
                return port
            claim.release()
