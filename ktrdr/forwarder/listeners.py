"""The listening sockets: opened, kept and closed as the plan of places changes."""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ktrdr.errors import Misconfigured
from ktrdr.forwarder.interfaces import interfaces
from ktrdr.forwarder.places import EVERYWHERE, LOOPBACK, Place, Plan, places_for
from ktrdr.forwarder.port_holder import holder_of
from ktrdr.forwarder.report import Listening
from ktrdr.forwarder.settings import ForwardSettings, is_linux

BACKLOG = 128

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Connection:
    """An accepted connection that is not served yet, and the place where it came in."""

    socket: socket.socket
    client: str
    reached: str
    """Our address that the client connected to."""
    place: Place


def current_plan(settings: ForwardSettings) -> Plan:
    """Where to listen with these settings and the present interfaces. Raises as `places_for`."""
    return places_for(settings.bind, settings.callers, interfaces(), is_linux=is_linux())


class Listeners:
    """All listening sockets of one port. For one thread.

    `plan` returns where to listen at the moment. Its Misconfigured is raised as long as nothing
    listens, and later becomes a complaint.
    """

    def __init__(self, port: int, plan: Callable[[], Plan]) -> None:
        self.port = port
        self.complaints: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self._plan = plan
        self._open: dict[tuple[str, int, str], tuple[Place, socket.socket]] = {}
        self._failed: dict[tuple[str, int, str], tuple[Place, int, str]] = {}
        self._selector = selectors.DefaultSelector()

    def follow(self) -> None:
        """Listen where the plan now says, and nowhere else."""
        for key, place in self.refresh().items():
            if key not in self._open:
                self._try(key, place)

    def refresh(self) -> dict[tuple[str, int, str], Place]:
        """Close what the plan no longer contains, and return its places. Quick: opens nothing."""
        plan = self._current_plan()
        wanted = {place.key: place for place in plan.places}
        for key in [key for key in self._open if key not in wanted]:
            self._close(key)
        self._failed = {key: one for key, one in self._failed.items() if key in wanted}
        for key in self._open:
            self._update(key, wanted[key])
        for line in (*plan.complaints, *plan.notes):
            if line not in (*self.complaints, *self.notes):
                log.warning("%s", line)
        self.complaints, self.notes = plan.complaints, plan.notes
        return wanted

    def _current_plan(self) -> Plan:
        try:
            return self._plan()
        except Misconfigured as error:
            if not self._open and not self.complaints:
                raise
            return Plan((), (str(error),))

    def _update(self, key: tuple[str, int, str], place: Place) -> None:
        before, listener = self._open[key]
        if before.callers != place.callers:
            log.info("%s has changed: accepts connections from %s", place.name, place.whom)
        self._open[key] = place, listener

    def _try(self, key: tuple[str, int, str], place: Place) -> None:
        try:
            listener = listen(place, self.port)
        except OSError as error:
            _, before, why = self._failed.get(key, (place, 0, ""))
            if before != error.errno:  # who has the port is looked up once, as that takes a while
                why = explain(error, place, self.port)
                log.error("cannot listen on %s: %s", place.name, why)
            self._failed[key] = place, error.errno or 0, why
            return
        self._failed.pop(key, None)
        self._open[key] = place, listener
        self._selector.register(listener, selectors.EVENT_READ, key)
        log.info(
            "listening on %s, port %d (%s): accepts connections from %s",
            place.name, self.port, place.reason, place.whom,
        )  # fmt: skip

    def _close(self, key: tuple[str, int, str]) -> None:
        place, listener = self._open.pop(key)
        self._selector.unregister(listener)
        listener.close()
        log.info("no longer listening on %s: it is gone", place.name)

    def accept(self, timeout_s: float) -> Iterator[Connection]:
        """The connections that arrive within this time, each accepted when it is iterated to."""
        for ready, _ in self._selector.select(timeout_s):
            for _ in range(BACKLOG):
                if ready.data not in self._open:
                    break
                place, listener = self._open[ready.data]
                try:
                    taken, (client, _) = listener.accept()
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                        raise
                    break
                try:
                    reached = taken.getsockname()[0]
                except OSError:  # macOS: it is closed already
                    taken.close()
                    continue
                yield Connection(taken, client, reached, place)

    def current_place(self, connection: Connection) -> Place | None:
        """The place where a connection came in, as it is now; None: it is gone."""
        found = self._open.get(connection.place.key)
        return found[0] if found else None

    @property
    def listening(self) -> tuple[Listening, ...]:
        """All places to listen, for the report."""
        return (
            *(Listening(place.name, place.whom) for place, _ in self._open.values()),
            *(Listening(place.name, place.whom, why) for place, _, why in self._failed.values()),
        )

    @property
    def all_failed(self) -> bool:
        """True if some place was wanted and none could be listened on."""
        return bool(self._failed) and not self._open

    def close(self) -> None:
        """Stop listening everywhere."""
        for _, listener in self._open.values():
            listener.close()
        self._open = {}
        self._selector.close()


def listen(place: Place, port: int) -> socket.socket:
    """A non-blocking socket that listens at a place. OSError: that is not possible.

    Since Linux 5.7 an ordinary user may bind to a device.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = place.address
        if place.device:
            try:
                device = place.device.encode() + b"\0"
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            except PermissionError:
                if place.index != LOOPBACK:
                    raise
                address = "127.0.0.1" if address == EVERYWHERE else address
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def explain(error: OSError, place: Place, port: int) -> str:
    """Why it is not possible to listen at a place, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is taken by {holder_of(port)}; stop that program, or choose another port"
            " with KTRDR_FORWARD_PORT"
        )
    if error.errno == errno.EPERM:
        return (
            "this Linux lets only root bind to a device (5.7 and later let everybody); run it as"
            " root, or set KTRDR_FORWARD_BIND and KTRDR_FORWARD_CALLERS"
        )
    why = error.strerror or str(error)
    return f"port {port} of {place.address}: {why} (see KTRDR_FORWARD_BIND, KTRDR_FORWARD_PORT)"


def drop(connection: Connection, *, reset: bool = False) -> None:
    """Close a connection that is not served; with a `reset` it looks refused."""
    with contextlib.suppress(OSError):
        if reset:
            connection.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        connection.socket.close()
