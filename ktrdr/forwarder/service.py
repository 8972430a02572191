"""Serving calls: who is, how many at a time, and what is said and counted about it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ktrdr.addresses import is_from_here, plain_address
from ktrdr.forwarder import report
from ktrdr.forwarder.closing import Closing
from ktrdr.forwarder.copying import Copying
from ktrdr.forwarder.listeners import Call, Listeners, hang_up
from ktrdr.forwarder.log_limit import LogLimit
from ktrdr.forwarder.places import Place
from ktrdr.forwarder.settings import ForwardSettings

MAX_CALLS_OF_ONE = 32
"""IB's limit of clients for one gateway: no caller has use for more."""
MAX_CALLS = 2 * MAX_CALLS_OF_ONE
"""So one caller that takes all it may shuts nobody out."""

_CONNECT_S = 10.0
_FOLLOW_S = 1.0
_POLL_S = 0.5
_PROBE_S, _PROBE_AGAIN_S = 60.0, 5.0
_REPORT_S = 1.0
_STOP_S = 3.0
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_TCP_RTO_MAX_MS = 44  # linux/tcp.h, since Linux 6.15
_SLOWEST_AGAIN_MS = 10_000
"""With Linux's 15 attempts, two minutes until who acknowledges nothing counts as gone."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why somebody is not served."""

    reason: str
    words: str


def refusal(
    place: Place | None, caller: str, reached: str, open_calls: Counter[str]
) -> Refusal | None:
    """Whether a call is not to be served, beside those that are open, by caller; None: it is.

    `reached`: our address that was called.
    """
    if place is None:
        return Refusal("foreign", "the bridge by which it came is gone")
    if plain_address(reached).is_loopback and not is_from_here(caller, reached):
        return Refusal("foreign", f"{reached} is for this machine alone")
    if not place.takes(caller):
        return Refusal("foreign", f"{place.name} takes calls from {place.whom}")
    if open_calls[caller] >= MAX_CALLS_OF_ONE:
        return Refusal("too_many_of_one", f"it has {MAX_CALLS_OF_ONE} open, all that one may have")
    if (total := sum(open_calls.values())) >= MAX_CALLS:
        return Refusal("too_many", f"{total} are open, and no more are allowed")
    return None


def full(open_calls: Counter[str]) -> tuple[str, ...]:
    """Who may open no more calls, a line each, by the calls that are open by caller."""
    if (total := sum(open_calls.values())) >= MAX_CALLS:
        return (f"{total} calls are open, and no more are allowed",)
    return tuple(
        f"{caller} has {count} calls open, all that one may have"
        for caller, count in open_calls.items()
        if count >= MAX_CALLS_OF_ONE
    )


class Gateway:
    """The one behind: connects to it, and remembers whether that worked. Thread-safe."""

    def __init__(self, target: tuple[str, int], name: str) -> None:
        self._target = target
        self.name = name
        self.state = ""
        self.why = ""
        self._tried = -_PROBE_S
        self._lock = threading.Lock()

    def connect(self) -> socket.socket:
        """A connection. OSError: there is none, and why."""
        try:
            found = socket.create_connection(self._target, _CONNECT_S)
            found.settimeout(None)
        except (OSError, UnicodeError) as error:
            why = _words(error)
            self._note("not_reached", why)
            raise OSError(why) from error
        self._note("reached")
        return found

    def probe(self, now_s: float) -> None:
        """Connect and leave where nobody has called for a while; does not wait for it."""
        if now_s - self._tried < (_PROBE_S if self.state == "reached" else _PROBE_AGAIN_S):
            return
        self._tried = now_s

        def try_it() -> None:
            with contextlib.suppress(OSError):
                self.connect().close()

        threading.Thread(target=try_it, name="probe", daemon=True).start()

    def _note(self, state: str, why: str = "") -> None:
        with self._lock:
            changed = (self.state, self.why) != (state, why)
            self.state, self.why, self._tried = state, why, time.monotonic()
        if changed and state == "reached":
            log.info("%s can be reached", self.name)
        elif changed:
            log.warning(
                "%s cannot be reached: %s; is the gateway started, and this its port?",
                self.name, why,
            )  # fmt: skip


def _words(error: OSError | UnicodeError | RuntimeError) -> str:
    """A system's error as one would say it."""
    if isinstance(error, socket.gaierror):
        return f"no such host ({error.strerror})"
    if isinstance(error, UnicodeError):
        return "that can be no host's name"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return f"no answer within {_CONNECT_S:.0f} s"
    return getattr(error, "strerror", None) or str(error)


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
        self._open: Counter[str] = Counter()
        self._served = 0
        self._bytes = 0
        self._refused: Counter[str] = Counter()
        self._error = ""
        self._error_time: float | None = None
        self._lines = LogLimit()
        self._closing = Closing()
        self._lock = threading.Lock()
        self._followed = -_FOLLOW_S
        self._reported = -_REPORT_S

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; then nothing is left of it."""
        try:
            while not stop.is_set():
                try:
                    self._turn(time.monotonic())
                except (OSError, RuntimeError) as error:  # no more files or threads may be had
                    self._note_error("failure", f"calls could not be taken: {_words(error)}")
                    stop.wait(_POLL_S)
        finally:
            self._end()

    def _turn(self, now_s: float) -> None:
        """Look at everything once, and take the calls that come within half a second."""
        self._closing.go_on(now_s)
        self._sum_up(now_s)
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
            self._listeners.look()  # whose calls are taken is as it is now
        except OSError:
            hang_up(call)
            raise
        with self._lock:
            place = self._listeners.place_of_now(call)
            why = refusal(place, call.caller, call.reached, self._open)
            if why is None:
                self._open[call.caller] += 1
            else:
                self._refused[why.reason] += 1
        if why is None:
            self._serve_apart(call)
            return
        if why.reason == "foreign":
            hang_up(call, rudely=True)
        else:
            self._closing.add(call.socket, time.monotonic())
        self._note_error("refused call", f"{call.caller}: refused a call: {why.words}")

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
            self._note_error("failure", f"a call from {call.caller} failed: {_words(error)}")
        finally:
            self._end_of(call)

    def _end_of(self, call: Call) -> None:
        call.socket.close()
        with self._lock:
            self._open[call.caller] -= 1
            self._open += Counter()  # drops those that have none

    def _pass_on(self, call: Call) -> None:
        try:
            far = self._gateway.connect()
        except OSError as error:
            with self._lock:
                self._refused["no_gateway"] += 1
            why = f"called, but {self._gateway.name} cannot be reached: {error}"
            self._note_error("unanswered call", f"{call.caller}: {why}")
            self._closing.add(call.socket, time.monotonic())
            return
        with far:
            keep_alive(call.socket)
            keep_alive(far)
            call.socket.setblocking(True)
            with self._lock:
                self._served += 1
                is_told = self._lines.writes("call", time.monotonic())
            if is_told:
                log.info("%s is connected to %s", call.caller, self._gateway.name)
            passed, failed = self._copying.between(call.socket, far)
        with self._lock:
            self._bytes += passed
            if failed and not is_told:
                is_told = self._lines.writes("broken call", time.monotonic())
        if is_told:
            why = f": {failed}" if failed else ""
            log.info("%s is disconnected after %d bytes%s", call.caller, passed, why)

    def _note_error(self, kind: str, words: str) -> None:
        """A warning; the same again only once a minute."""
        with self._lock:
            self._error, self._error_time = words, time.time()
            is_told = self._lines.writes(kind, time.monotonic(), once=words)
        if is_told:
            log.warning("%s", words)

    def _sum_up(self, now_s: float) -> None:
        """What was left out of the log until then."""
        with self._lock:
            summaries = list(self._lines.summaries(now_s))
        for line in summaries:
            log.info("%s", line)

    def _write_report(self) -> None:
        with contextlib.suppress(OSError):  # a full disk keeps nobody from calling
            report.write(self.settings.run_dir, self.report())

    def report(self) -> report.Report:
        """What is known now."""
        with self._lock:
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
                open_calls=sum(self._open.values()),
                full=full(self._open),
                calls=self._served,
                refused=dict(self._refused),
                bytes=self._bytes + self._copying.under_way(),
                gateway=self._gateway.state,
                gateway_why=self._gateway.why,
                last_error=self._error,
                last_error_time=self._error_time,
            )

    def _end(self) -> None:
        """Close what listens, end what is open, and wait for that."""
        self._listeners.close()
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            self._copying.end()
            with self._lock:
                if not self._open:
                    break
            time.sleep(0.05)
        self._closing.end()
        self._sum_up(math.inf)
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
