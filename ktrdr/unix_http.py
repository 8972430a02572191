"""An HTTP connection over a Unix socket: to our own programs, and to supervisord's XML-RPC.

It is http.client's, because xmlrpc.client needs that one, and because another thread can shut its
socket down while a response is awaited. It knows nothing about the requests.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from pathlib import Path

HTTP_ERRORS = (OSError, http.client.HTTPException)
"""What a connection raises if no program listens there, or one that does not speak HTTP."""


class UnixConnection(http.client.HTTPConnection):
    """A connection to the program that listens at a path."""

    def __init__(self, path: Path, timeout_s: float | None) -> None:
        """`timeout_s`: how long to wait for each reply; None: for ever."""
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect. OSError: no program listens there, or it does not accept in time."""
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(os.fspath(self._path))
        except OSError:
            self.close()
            raise

    def abort(self) -> None:
        """Shut it down, from any thread. A thread that waits for a reply gets an HTTP_ERRORS."""
        if (connected := self.sock) is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
