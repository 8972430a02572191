"""Ports for servers of tests: free, and none handed out twice in one run."""

from __future__ import annotations

import contextlib
import random
import socket

_BELOW_EPHEMERAL = range(20_000, 32_000)
"""Where no outgoing connection and no server on port 0 gets its port."""
_handed_out: set[int] = set()


def free_port() -> int:
    """A loopback port on which nobody listens, and that nobody else was given."""
    while True:
        port = random.choice(_BELOW_EPHEMERAL)
        if port in _handed_out:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _handed_out.add(port)
            return port
