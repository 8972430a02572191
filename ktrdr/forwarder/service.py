"""Serving calls: each in a thread of its own, from the listener to the gateway. Copies no bytes."""

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
from ktrdr.forwarder.calls import Calls
from ktrdr.forwarder.closing import Closing
from ktrdr.forwarder.copying import Copying
from ktrdr.forwarder.gateway import Gateway, words
from ktrdr.forwarder.listeners import Call, Listeners, close_all
from ktrdr.forwarder.settings import ForwardSettings

_FOLLOW_S = 1.0
_POLL_S = 0.5
_REPORT_S = 1.0
_STOP_S = 3.0
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_TCP_RTO_MAX_MS = 44  # linux/tcp.h, since Linux 6.15
_SLOWEST_AGAIN_MS = 10_000
"""With Linux's 15 attempts, two minutes until who acknowledges nothing counts as gone."""

log = logging.getLogger(__name__)


class Forwarder:
    """Serves calls until it is told to stop. Each has a thread of its own."""

    def __init__(
        self, settings: ForwardSettings, listeners: Listeners, copying: Copying, gateway: Gateway
    ) -> None:
        self.settings = settings
        self._listeners = listeners
        self._copying = copying
        self._gateway = gateway
        self._started = time.time()
        self._calls = Calls()
        self._closing = Closing()
        self._followed = -_FOLLOW_S
        self._reported = -_REPORT_S

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; then nothing is left of it."""
        try:
            while not stop.is_set():
                try:
                    self._turn(time.monotonic())
                except (OSError, RuntimeError) as error:  # no more files or threads may be had
                    self._calls.note_error("failure", f"calls could not be taken: {words(error)}")
                    stop.wait(_POLL_S)
        finally:
            self._end()

    def _turn(self, now_s: float) -> None:
        """Look at everything once, and take the calls that come within half a second."""
        self._closing.go_on(now_s)
        self._calls.sum_up(now_s)
        if now_s - self._reported >= _REPORT_S:
            self._reported = now_s
            self._write_report()
        if now_s - self._followed >= _FOLLOW_S:
            self._followed = now_s
            self._listeners.follow()
        self._gateway.probe(now_s)
        for call in self._listeners.calls(_POLL_S):
            self._take(call)

    def _take(self, call: Call) -> None:
        """Serve a call in a thread of its own, or refuse it."""
        try:
            self._listeners.refresh()  # whose calls are taken is as it is now
        except OSError:
            close_all(call)
            raise
        why = self._calls.admit(self._listeners.place_of_now(call), call.caller, call.reached)
        if why is None:
            self._serve_apart(call)
            return
        if why.reason == "foreign":
            close_all(call, rudely=True)
        else:
            self._closing.add(call.socket, time.monotonic())
        self._calls.note_error("refused call", f"{call.caller}: refused a call: {why.words}")

    def _serve_apart(self, call: Call) -> None:
        """RuntimeError: no more threads may be had; the call is over."""
        try:
            threading.Thread(target=self._serve, args=[call], name="call", daemon=True).start()
        except RuntimeError:
            self._end_of(call)
            raise

    def _serve(self, call: Call) -> None:
        try:
            self._pass_on(call)
        except (OSError, RuntimeError) as error:
            self._calls.note_error("failure", f"a call from {call.caller} failed: {words(error)}")
        finally:
            self._end_of(call)

    def _end_of(self, call: Call) -> None:
        call.socket.close()
        self._calls.ended(call.caller)

    def _pass_on(self, call: Call) -> None:
        try:
            far = self._gateway.connect()
        except OSError as error:
            self._calls.not_reached()
            why = f"called, but {self._gateway.name} cannot be reached: {error}"
            self._calls.note_error("unanswered call", f"{call.caller}: {why}")
            self._closing.add(call.socket, time.monotonic())
            return
        with far:
            keep_alive(call.socket)
            keep_alive(far)
            call.socket.setblocking(True)
            is_logged = self._calls.connected(call.caller, self._gateway.name)
            passed, failed = self._copying.between(call.socket, far)
        self._calls.passed(call.caller, passed, failed, is_logged=is_logged)

    def _write_report(self) -> None:
        with contextlib.suppress(OSError):  # a full disk keeps nobody from calling
            report.write(self.settings.run_dir, self.report())

    def report(self) -> report.Report:
        """What is known now."""
        calls = self._calls.counts()
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
            open_calls=calls.open,
            full=calls.full,
            calls=calls.served,
            refused=dict(calls.refused),
            bytes=calls.bytes + self._copying.under_way(),
            gateway=self._gateway.state,
            gateway_why=self._gateway.why,
            last_error=calls.error,
            last_error_time=calls.error_time,
        )

    def _end(self) -> None:
        """Close what listens, end what is open, and wait for that."""
        self._listeners.close()
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            self._copying.end()
            if not self._calls.any_open:
                break
            time.sleep(0.05)
        self._closing.end()
        self._calls.sum_up(math.inf)
        with contextlib.suppress(OSError):
            report.forget(Path(self.settings.run_dir))


def keep_alive(connection: socket.socket) -> None:
    """Pass small messages on at once, and notice a peer that vanished without a word."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # each system has some of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    # Keepalive rests while data wait. TCP_USER_TIMEOUT would also cut who lives and does not read.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, _SLOWEST_AGAIN_MS)
