"""Closing connections whose other side may still talk, without a reset and without waiting.

A socket that is closed with unread data is reset by the system, which looks like a refusal. So the
end is sent, what still comes is read, and the socket is closed a little later.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque

MOST = 32
"""At a time; of more, the oldest is closed at once."""
PATIENCE_S = 1.0
_READ_BYTES = 65536


class Closing:
    """Those that are being closed. Nothing here blocks; thread-safe."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, socket.socket]] = deque()
        self._lock = threading.Lock()

    def add(self, connection: socket.socket, now_s: float) -> None:
        """Take it over, and say that nothing more comes; `go_on` closes it."""
        # Told, as macOS does not tell what a connection is that was reset.
        kind = (
            connection.family,
            connection.type,
            connection.proto,
        )
        mine = socket.socket(*kind, fileno=connection.detach())
        try:
            mine.setblocking(False)
            mine.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            mine.close()
            return
        with self._lock:
            self._waiting.append((now_s + PATIENCE_S, mine))
            if len(self._waiting) > MOST:
                _close(self._waiting.popleft()[1])

    def go_on(self, now_s: float) -> None:
        """Close those whose other side has ended, too, and those that were waited for enough."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            for until_s, one in waiting:
                if now_s >= until_s or _has_ended(one):
                    _close(one)
                else:
                    self._waiting.append((until_s, one))

    @property
    def count(self) -> int:
        """How many are not closed yet."""
        return len(self._waiting)

    def end(self) -> None:
        """Close all."""
        with self._lock:
            while self._waiting:
                _close(self._waiting.popleft()[1])


def _has_ended(connection: socket.socket) -> bool:
    """Read a little of what has come; True: nothing more will."""
    try:
        return not connection.recv(_READ_BYTES)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        connection.recv(_READ_BYTES)
