"""The one client of HTTP over a Unix socket: for our own programs, and for supervisord's XML-RPC.

It is http.client's connection, which xmlrpc.client needs in any case, and whose socket another
thread can shut down while an answer is awaited. Knows nothing of what is asked.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from pathlib import Path

HTTP_ERRORS = (OSError, http.client.HTTPException)
"""What a connection raises when nobody is there, or what is there speaks no HTTP."""


class UnixConnection(http.client.HTTPConnection):
    """A connection to the program that listens at a path."""

    def __init__(self, path: Path, timeout_s: float | None) -> None:
        """`timeout_s`: how long it may be silent; None: for ever."""
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect. OSError: nobody listens there, or not in time."""
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(os.fspath(self._path))
        except OSError:
            self.close()
            raise

    def abort(self) -> None:
        """Break off, from any thread: whoever awaits an answer gets one of HTTP_ERRORS."""
        if (connected := self.sock) is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
