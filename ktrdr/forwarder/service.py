"""The forwarder: serves each connection in a thread, from listener to gateway. Copies no bytes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import sys
import threading
import time
from pathlib import Path

from ktrdr.forwarder import report
from ktrdr.forwarder.closing import Closing
from ktrdr.forwarder.connections import Connections
from ktrdr.forwarder.copying import Copying
from ktrdr.forwarder.gateway import Gateway, words
from ktrdr.forwarder.listeners import Connection, Listeners, drop
from ktrdr.forwarder.settings import ForwardSettings

_FOLLOW_S = 1.0
_POLL_S = 0.5
_REPORT_S = 1.0
_STOP_S = 3.0
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_TCP_RTO_MAX_MS = 44  # linux/tcp.h, since Linux 6.15
_SLOWEST_AGAIN_MS = 10_000
"""With Linux's 15 attempts: a peer that acknowledges nothing counts as gone after two minutes."""

log = logging.getLogger(__name__)


class Forwarder:
    """Serves connections until it is stopped, each in a thread of its own."""

    def __init__(
        self, settings: ForwardSettings, listeners: Listeners, copying: Copying, gateway: Gateway
    ) -> None:
        self.settings = settings
        self._listeners = listeners
        self._copying = copying
        self._gateway = gateway
        self._started = time.time()
        self._connections = Connections()
        self._closing = Closing()
        self._followed = -_FOLLOW_S
        self._reported = -_REPORT_S

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set, then close everything."""
        try:
            while not stop.is_set():
                try:
                    self._step(time.monotonic())
                except (OSError, RuntimeError) as error:  # out of files or threads
                    why = f"connections could not be accepted: {words(error)}"
                    self._connections.note_error("failure", why)
                    stop.wait(_POLL_S)
        finally:
            self._end()

    def _step(self, now_s: float) -> None:
        """Do what is due, and accept the connections that arrive within half a second."""
        self._closing.go_on(now_s)
        self._connections.log_summaries(now_s)
        if now_s - self._reported >= _REPORT_S:
            self._reported = now_s
            self._write_report()
        if now_s - self._followed >= _FOLLOW_S:
            self._followed = now_s
            self._listeners.follow()
        self._gateway.probe(now_s)
        for connection in self._listeners.accept(_POLL_S):
            self._admit(connection)

    def _admit(self, connection: Connection) -> None:
        """Serve a connection in a thread of its own, or refuse it."""
        try:
            self._listeners.refresh()  # the bridge's subnets may have changed
        except OSError:
            drop(connection)
            raise
        why = self._connections.admit(
            self._listeners.current_place(connection), connection.client, connection.reached
        )
        if why is None:
            self._start_serving(connection)
            return
        if why.reason == "foreign":
            drop(connection, reset=True)
        else:
            self._closing.add(connection.socket, time.monotonic())
        what = f"{connection.client}: refused a connection: {why.words}"
        self._connections.note_error("refused connection", what)

    def _start_serving(self, connection: Connection) -> None:
        """RuntimeError: no more threads; the connection is closed."""
        try:
            threading.Thread(
                target=self._serve, args=[connection], name="connection", daemon=True
            ).start()
        except RuntimeError:
            self._close(connection)
            raise

    def _serve(self, connection: Connection) -> None:
        try:
            self._forward(connection)
        except (OSError, RuntimeError) as error:
            what = f"a connection from {connection.client} failed: {words(error)}"
            self._connections.note_error("failure", what)
        finally:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        connection.socket.close()
        self._connections.ended(connection.client)

    def _forward(self, connection: Connection) -> None:
        try:
            far = self._gateway.connect()
        except OSError as error:
            self._connections.not_reached()
            why = f"connected, but {self._gateway.name} cannot be reached: {error}"
            self._connections.note_error("failed connection", f"{connection.client}: {why}")
            self._closing.add(connection.socket, time.monotonic())
            return
        with far:
            keep_alive(connection.socket)
            keep_alive(far)
            connection.socket.setblocking(True)
            is_logged = self._connections.forwarding(connection.client, self._gateway.name)
            count, failed = self._copying.between(connection.socket, far)
        self._connections.forwarded(connection.client, count, failed, is_logged=is_logged)

    def _write_report(self) -> None:
        with contextlib.suppress(OSError):  # a full disk must not stop the forwarding
            report.write(self.settings.run_dir, self.report())

    def report(self) -> report.Report:
        """State and counts now."""
        counts = self._connections.counts()
        return report.Report(
            time=time.time(),
            started=self._started,
            pid=os.getpid(),
            copying=self._copying.name,
            port=self.settings.port,
            target=self._gateway.name,
            listening=self._listeners.listening,
            complaints=self._listeners.complaints,
            notes=self._listeners.notes,
            open_calls=counts.open,
            full=counts.full,
            calls=counts.served,
            refused=dict(counts.refused),
            bytes=counts.bytes + self._copying.under_way(),
            gateway=self._gateway.state,
            gateway_why=self._gateway.why,
            last_error=counts.error,
            last_error_time=counts.error_time,
        )

    def _end(self) -> None:
        """Close the listeners, end the open connections, and wait until they have."""
        self._listeners.close()
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            self._copying.end()
            if not self._connections.any_open:
                break
            time.sleep(0.05)
        self._closing.end()
        self._connections.log_summaries(math.inf)
        with contextlib.suppress(OSError):
            report.forget(Path(self.settings.run_dir))


def keep_alive(connection: socket.socket) -> None:
    """Send small messages at once, and notice a peer that vanished without closing."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # each system has some of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    # Keepalive pauses while data wait. TCP_USER_TIMEOUT would also cut a peer that does not read.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, _SLOWEST_AGAIN_MS)
