"""The port: opens, accepts connections, and closes. Does not read their contents.

asyncio's own server passes a connection on several loop iterations after accepting it, so that one
accepted just before the close is never closed. Here each connection has an owner at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from ktrdr.addresses import is_from_here, plain_address
from ktrdr.errors import Misconfigured

_BACKLOG = 100
_PAUSE_S = 1.0
"""Seconds until the next attempt to accept when no file descriptors are left."""

log = logging.getLogger(__name__)


class Listener:
    """Listens on one address; every method is for the event loop's thread.

    On a loopback address it accepts only this machine's connections, whatever routes exist.
    """

    def __init__(self, host: str, port: int, accepted: Callable[[socket.socket], None]) -> None:
        """`port` 0: any free one, which it keeps. `accepted` owns each connection's socket."""
        self.host = host
        self.port = port
        self._accepted = accepted
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether a client can connect."""
        return self._socket is not None

    def open(self) -> None:
        """Listen, if not listening yet. Misconfigured: the address is not available."""
        if self._socket:
            return
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._socket = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            reason = "in use" if error.errno == errno.EADDRINUSE else str(error)
            raise Misconfigured(
                f"port {self.port} on {self.host}: {reason}",
                hint="--port chooses another, 0 any free one",
            ) from error
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self._watch()

    def close(self) -> None:
        """Stop listening: new connections are refused."""
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _watch(self) -> None:
        if self._socket:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        """Accept all waiting connections."""
        while self._socket:
            try:
                connection, caller = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("cannot accept: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._socket)
                loop.call_later(_PAUSE_S, self._watch)
                return
            reached = self._socket.getsockname()[0]
            if plain_address(reached).is_loopback and not is_from_here(caller[0], reached):
                connection.close()
                continue
            connection.setblocking(False)
            self._accepted(connection)
