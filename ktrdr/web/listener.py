"""The page's listener: accepts connections from its callers and closes all others unread."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any

from flask import Flask
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]

from ktrdr.config.callers import Callers, may_connect
from ktrdr.config.settings import Settings
from ktrdr.errors import Misconfigured
from ktrdr.web.page_access import is_not_here, own_networks, page_callers

_THREADS = 32  # with 4, four slow readers froze the page
_MOST_LOGGED = 1000

log = logging.getLogger(__name__)


def listen(app: Flask, settings: Settings, sockets: dict[int, Any]) -> ThreadedTaskDispatcher:
    """Listen at each of the host's addresses on this machine; return what answers, to be shut down.

    `sockets` is waitress's map, for its loop. Misconfigured: it is not possible to listen there, or
    as `page_callers`.
    """
    host, port = settings.ktrdr_status_host, settings.ktrdr_status_port
    callers = page_callers(settings)
    dispatcher = ThreadedTaskDispatcher()
    try:
        adjustments = Adjustments(host=host, port=port, ident=None)
        missing = []
        for place in adjustments.listen:
            try:
                _Listener(
                    callers, app, sockets, dispatcher=dispatcher, adj=adjustments, sockinfo=place
                )
            except OSError as error:
                if not is_not_here(error):
                    raise
                missing.append(error)
        if len(missing) == len(adjustments.listen):
            raise missing[0]
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise Misconfigured(
                f"KTRDR_STATUS_PORT={port}: expected a free port, but {host}:{port} is not "
                f"available: {error.strerror}"
            ) from error
        raise _no_address(host, error.strerror) from error
    except ValueError as error:  # how waitress says it
        raise _no_address(host, "the name has no address, or cannot be looked up now") from error
    dispatcher.set_thread_count(_THREADS)
    return dispatcher


def _no_address(host: str, why: str | None) -> Misconfigured:
    return Misconfigured(f"KTRDR_STATUS_HOST={host}: expected an address of this machine: {why}")


class _Listener(TcpWSGIServer):  # type: ignore[misc]
    """waitress's listener at one address, for certain callers only."""

    def __init__(self, callers: Callers, *arguments: Any, **named: Any) -> None:
        try:
            super().__init__(*arguments, **named)
        except OSError:
            self.close()  # it is in waitress's map already
            raise
        self._callers = callers
        self._logged: set[str] = set()

    def accept(self) -> tuple[socket.socket, Any] | None:
        """An accepted connection of a caller; None: there is none, or it was closed."""
        accepted: tuple[socket.socket, Any] | None = super().accept()
        if accepted is None or self._is_for(*accepted):
            return accepted
        accepted[0].close()
        return None

    def _is_for(self, connection: socket.socket, address: Any) -> bool:
        client = address[0]
        own = own_networks() if self._callers.with_own else []
        if may_connect(self._callers, client, connection.getsockname()[0], own):
            return True
        if client not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(client)
            why = "not in KTRDR_STATUS_CALLERS" if self._callers.are_named else "another machine's"
            log.warning("a connection from %s was closed: it is %s", client, why)
        return False
