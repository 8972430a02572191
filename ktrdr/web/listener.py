"""The page's listener: accepts connections from its callers and closes all others unread."""

from __future__ import annotations

import errno
import logging
import resource
import socket
import sys
from dataclasses import replace
from typing import Any

from flask import Flask
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]

from ktrdr.config.callers import Callers, may_connect
from ktrdr.config.settings import Settings
from ktrdr.errors import Misconfigured
from ktrdr.web.connection_limits import LIMITS, Limits, Neighbour, client_of, to_close
from ktrdr.web.connections import MOST_HEADER_BYTES, Connection
from ktrdr.web.error_handlers import MOST_BODY_BYTES
from ktrdr.web.page_access import connecting, is_not_here, own_networks, page_callers

_THREADS = 32  # with 4, four slow readers froze the page
_MOST_LOGGED = 1000
_CLEANUP_S = 1
_FILES_EACH = 2
"""Files that this process may open, per connection: itself, and what is read for it."""
_MOST_UNSENT_BYTES = 1024 * 1024
"""Of one answer in memory: with waitress' 16 MiB, ten large downloads took a gigabyte."""

log = logging.getLogger(__name__)


def listen(
    app: Flask, settings: Settings, sockets: dict[int, Any], limits: Limits = LIMITS
) -> ThreadedTaskDispatcher:
    """Listen at each of the host's addresses on this machine; return what answers, to be shut down.

    `sockets` is waitress's map, for its loop. Misconfigured: it is not possible to listen there, or
    as `page_callers`.
    """
    host, port = settings.ktrdr_status_host, settings.ktrdr_status_port
    callers = connecting(page_callers(settings), settings.status_proxies)
    dispatcher = ThreadedTaskDispatcher()
    try:
        limits = replace(limits, most=min(limits.most, _most_connections()))
        adjustments = _adjustments(host, port, limits)
        missing = []
        for place in adjustments.listen:
            try:
                more = {"dispatcher": dispatcher, "adj": adjustments, "sockinfo": place}
                _Listener(callers, limits, app, sockets, **more)
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


def _adjustments(host: str, port: int, limits: Limits) -> Adjustments:
    """The settings of waitress; its own limit of connections, where it stops, is never reached."""
    return Adjustments(
        host=host,
        port=port,
        ident=None,
        connection_limit=limits.most + 100,
        cleanup_interval=_CLEANUP_S,
        channel_timeout=limits.idle_s,
        clear_untrusted_proxy_headers=False,  # the application does it
        max_request_header_size=MOST_HEADER_BYTES,
        max_request_body_size=MOST_BODY_BYTES + 1,
        outbuf_high_watermark=_MOST_UNSENT_BYTES,
    )


def _most_connections() -> int:
    """As many as this process may open files for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft // _FILES_EACH


def _no_address(host: str, why: str | None) -> Misconfigured:
    return Misconfigured(f"KTRDR_STATUS_HOST={host}: expected an address of this machine: {why}")


class _Listener(TcpWSGIServer):  # type: ignore[misc]
    """waitress's listener at one address, for certain callers only, and not too many at a time."""

    channel_class = Connection

    def __init__(self, callers: Callers, limits: Limits, *arguments: Any, **named: Any) -> None:
        try:
            super().__init__(*arguments, **named)
        except OSError:
            self.close()  # it is in waitress's map already
            raise
        self._callers, self._limits = callers, limits
        self._logged: set[str] = set()

    def accept(self) -> tuple[socket.socket, Any] | None:
        """An accepted connection of a caller; None: there is none, or it was closed."""
        accepted: tuple[socket.socket, Any] | None = super().accept()
        if accepted is None or (self._is_for(*accepted) and self._has_room(accepted[1][0])):
            return accepted
        accepted[0].close()
        return None

    def maintenance(self, now: float) -> None:
        """Close the connections that have had their time."""
        super().maintenance(now)
        for connection in list(self.active_channels.values()):
            if connection.is_overdue(now, self._limits):
                connection.abandon()

    def _is_for(self, connection: socket.socket, address: Any) -> bool:
        client = address[0]
        own = own_networks() if self._callers.with_own else []
        if may_connect(self._callers, client, connection.getsockname()[0], own):
            return True
        why = "not in KTRDR_STATUS_CALLERS" if self._callers.are_named else "another machine's"
        self._log_once(client, f"a connection from {client} was closed: it is {why}")
        return False

    def _has_room(self, address: str) -> bool:
        """Whether one more may be open; the one that has waited longest is closed for it."""
        connections = [
            one for one in self._map.values() if isinstance(one, Connection) and not one.will_close
        ]
        others = [Neighbour(one.client, one.waits_since, one.may_be_closed) for one in connections]
        goes = to_close(others, client_of(address), self._limits)
        if goes is None:
            return True
        if goes < 0:
            self._log_once(f"{address} busy", f"too many requests at once, the last of {address}")
            return False
        connections[goes].will_close = True
        return True

    def _log_once(self, what: str, words: str) -> None:
        if what not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(what)
            log.warning("%s", words)
