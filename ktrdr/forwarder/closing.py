"""Closing connections whose peer may still be sending, without a reset and without waiting.

When a socket with unread data is closed, the system resets the connection, which looks like a
refusal. So the end is sent, what still arrives is read, and the socket is closed a little later.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque

MOST = 32
"""Connections being closed at a time; beyond that the oldest is closed at once."""
PATIENCE_S = 1.0
_READ_BYTES = 65536


class Closing:
    """The connections that are being closed. Nothing here blocks. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, socket.socket]] = deque()
        self._lock = threading.Lock()

    def add(self, connection: socket.socket, now_s: float) -> None:
        """Take over a connection and send its end; `go_on` closes it later."""
        # Given here because macOS cannot tell the kind of a connection that was reset.
        kind = (
            connection.family,
            connection.type,
            connection.proto,
        )
        mine = socket.socket(*kind, fileno=connection.detach())
        try:
            mine.setblocking(False)
            mine.shutdown(socket.SHUT_WR)
        except OSError:  # the peer is gone
            mine.close()
            return
        with self._lock:
            self._waiting.append((now_s + PATIENCE_S, mine))
            if len(self._waiting) > MOST:
                _close(self._waiting.popleft()[1])

    def go_on(self, now_s: float) -> None:
        """Close the connections whose peer has ended too, or that have waited for `PATIENCE_S`."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            for until_s, one in waiting:
                if now_s >= until_s or _has_ended(one):
                    _close(one)
                else:
                    self._waiting.append((until_s, one))

    @property
    def count(self) -> int:
        """How many connections are not closed yet."""
        return len(self._waiting)

    def end(self) -> None:
        """Close all connections now."""
        with self._lock:
            while self._waiting:
                _close(self._waiting.popleft()[1])


def _has_ended(connection: socket.socket) -> bool:
    """Read a little of what has arrived. True: nothing more will."""
    try:
        return not connection.recv(_READ_BYTES)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        connection.recv(_READ_BYTES)
