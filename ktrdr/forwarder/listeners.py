"""The sockets that listen: opened, followed and closed as the places come, move and go."""

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
from ktrdr.forwarder.places import EVERYWHERE, LOOPBACK, Place, Plan
from ktrdr.forwarder.port_holder import holder_of
from ktrdr.forwarder.report import Listening

BACKLOG = 128

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One that was taken from the system, and by whose listener; nobody has served it yet."""

    socket: socket.socket
    caller: str
    reached: str
    """Our address that was called."""
    place: Place


class Listeners:
    """All that listen on one port; one thread calls this.

    `plan` says where at this moment. Its Misconfigured passes through at first, and counts as a
    complaint later.
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
        """Listen where the plan says by now, and nowhere else."""
        for key, place in self.refresh().items():
            if key not in self._open:
                self._try(key, place)

    def refresh(self) -> dict[tuple[str, int, str], Place]:
        """Where the plan says by now; nowhere else is listened any more. Quick: opens nothing."""
        plan = self._plan_of_now()
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

    def _plan_of_now(self) -> Plan:
        try:
            return self._plan()
        except Misconfigured as error:
            if not self._open and not self.complaints:
                raise
            return Plan((), (str(error),))

    def _update(self, key: tuple[str, int, str], place: Place) -> None:
        before, listener = self._open[key]
        if before.callers != place.callers:
            log.info("%s has moved: now takes calls from %s", place.name, place.whom)
        self._open[key] = place, listener

    def _try(self, key: tuple[str, int, str], place: Place) -> None:
        try:
            listener = listen(place, self.port)
        except OSError as error:
            _, before, why = self._failed.get(key, (place, 0, ""))
            if before != error.errno:  # who has the port is asked once: that takes a while
                why = explain(error, place, self.port)
                log.error("cannot listen on %s: %s", place.name, why)
            self._failed[key] = place, error.errno or 0, why
            return
        self._failed.pop(key, None)
        self._open[key] = place, listener
        self._selector.register(listener, selectors.EVENT_READ, key)
        log.info(
            "listens on %s, port %d (%s): takes calls from %s",
            place.name, self.port, place.reason, place.whom,
        )  # fmt: skip

    def _close(self, key: tuple[str, int, str]) -> None:
        place, listener = self._open.pop(key)
        self._selector.unregister(listener)
        listener.close()
        log.info("no longer listens on %s: it is gone", place.name)

    def calls(self, timeout_s: float) -> Iterator[Call]:
        """Who calls within this time; each is asked for after the last one was dealt with."""
        for ready, _ in self._selector.select(timeout_s):
            for _ in range(BACKLOG):
                if ready.data not in self._open:
                    break
                place, listener = self._open[ready.data]
                try:
                    taken, (caller, _) = listener.accept()
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                        raise
                    break
                try:
                    reached = taken.getsockname()[0]
                except OSError:  # macOS, of one that has gone again
                    taken.close()
                    continue
                yield Call(taken, caller, reached, place)

    def place_of_now(self, call: Call) -> Place | None:
        """The place by which somebody called, as it is now; None: it is gone."""
        found = self._open.get(call.place.key)
        return found[0] if found else None

    @property
    def listening(self) -> tuple[Listening, ...]:
        """All places, for the report."""
        return (
            *(Listening(place.name, place.whom) for place, _ in self._open.values()),
            *(Listening(place.name, place.whom, why) for place, _, why in self._failed.values()),
        )

    @property
    def are_none(self) -> bool:
        """True where nothing could be had of what was wanted."""
        return bool(self._failed) and not self._open

    def close(self) -> None:
        """Listen nowhere."""
        for _, listener in self._open.values():
            listener.close()
        self._open = {}
        self._selector.close()


def listen(place: Place, port: int) -> socket.socket:
    """A socket that listens there, and does not block. OSError: it cannot be had.

    Linux lets an ordinary user bind to a device since 5.7.
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
    """Why that cannot be had, and what to do."""
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


def close_all(call: Call, *, rudely: bool = False) -> None:
    """Close a call that is not served; `rudely`: with a reset, which says that it is not wanted."""
    with contextlib.suppress(OSError):
        if rudely:
            call.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        call.socket.close()
