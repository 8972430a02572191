"""The forwarder's connections: which are accepted, and their counts and log lines. Opens none."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ktrdr.addresses import is_from_here, plain_address
from ktrdr.forwarder.log_limit import LogLimit
from ktrdr.forwarder.places import Place

MAX_OF_ONE_CLIENT = 32
"""IB's limit of API clients for one gateway: nobody has a use for more connections."""
MAX_CONNECTIONS = 2 * MAX_OF_ONE_CLIENT
"""So that one client at its limit shuts nobody out."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a connection is not accepted."""

    reason: str
    """`foreign`, `too_many` or `too_many_of_one`."""
    words: str


def refusal(
    place: Place | None, client: str, reached: str, open_by_client: Counter[str]
) -> Refusal | None:
    """Why a connection is refused, given the open ones by client; None: it is accepted.

    `client`: its address; `reached`: our address that it connected to; `place`: where it came in,
    None if that is gone.
    """
    if place is None:
        return Refusal("foreign", "the bridge by which it came is gone")
    if plain_address(reached).is_loopback and not is_from_here(client, reached):
        return Refusal("foreign", f"{reached} is for this machine alone")
    if not place.accepts(client):
        return Refusal("foreign", f"{place.name} accepts connections from {place.whom}")
    if open_by_client[client] >= MAX_OF_ONE_CLIENT:
        return Refusal(
            "too_many_of_one", f"it has {MAX_OF_ONE_CLIENT} open, the limit for one client"
        )
    if (total := sum(open_by_client.values())) >= MAX_CONNECTIONS:
        return Refusal("too_many", f"{total} are open, the limit for all clients")
    return None


def full(open_by_client: Counter[str]) -> tuple[str, ...]:
    """Who may open no more connections, a line each."""
    if (total := sum(open_by_client.values())) >= MAX_CONNECTIONS:
        return (f"{total} connections are open, the limit for all clients",)
    return tuple(
        f"{client} has {count} connections open, the limit for one client"
        for client, count in open_by_client.items()
        if count >= MAX_OF_ONE_CLIENT
    )


@dataclass(frozen=True)
class Counts:
    """The connections since the start, as counted at one moment."""

    open: int
    full: tuple[str, ...]
    """Who may open no more, as `full` has it."""
    served: int
    refused: Mapping[str, int]
    """Reason → connections."""
    bytes: int
    """Of the connections that have ended."""
    error: str
    error_time: float | None


class Connections:
    """All connections of one forwarder. Thread-safe: each is served by its own thread."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._served = 0
        self._bytes = 0
        self._refused: Counter[str] = Counter()
        self._error = ""
        self._error_time: float | None = None
        self._lines = LogLimit()
        self._lock = threading.Lock()

    @property
    def any_open(self) -> bool:
        """Some have not ended yet."""
        with self._lock:
            return bool(self._open)

    def admit(self, place: Place | None, client: str, reached: str) -> Refusal | None:
        """Count a connection as open, or as refused for the reason that `refusal` gives."""
        with self._lock:
            why = refusal(place, client, reached, self._open)
            if why is None:
                self._open[client] += 1
            else:
                self._refused[why.reason] += 1
        return why

    def ended(self, client: str) -> None:
        """An admitted connection is closed."""
        with self._lock:
            self._open[client] -= 1
            self._open += Counter()  # drops clients with none

    def not_reached(self) -> None:
        """The gateway could not be reached for an admitted connection."""
        with self._lock:
            self._refused["no_gateway"] += 1

    def forwarding(self, client: str, gateway: str) -> bool:
        """An admitted connection is forwarded from now on. True: the log has a line about it."""
        with self._lock:
            self._served += 1
            is_logged = self._lines.writes("connection", time.monotonic())
        if is_logged:
            log.info("%s is connected to %s", client, gateway)
        return is_logged

    def forwarded(self, client: str, count: int, failed: str, *, is_logged: bool) -> None:
        """That has ended after `count` bytes; `failed`: how it broke, else empty.

        `is_logged`: what `forwarding` returned.
        """
        with self._lock:
            self._bytes += count
            if failed and not is_logged:
                is_logged = self._lines.writes("broken connection", time.monotonic())
        if is_logged:
            why = f": {failed}" if failed else ""
            log.info("%s is disconnected after %d bytes%s", client, count, why)

    def note_error(self, kind: str, words: str) -> None:
        """Keep an error for the report and log it, the same one only once a minute."""
        with self._lock:
            self._error, self._error_time = words, time.time()
            is_logged = self._lines.writes(kind, time.monotonic(), once=words)
        if is_logged:
            log.warning("%s", words)

    def log_summaries(self, now_s: float) -> None:
        """Log how many lines were left out in the minutes that are over."""
        with self._lock:
            summaries = list(self._lines.summaries(now_s))
        for line in summaries:
            log.info("%s", line)

    def counts(self) -> Counts:
        """The counts so far."""
        with self._lock:
            return Counts(
                open=sum(self._open.values()),
                full=full(self._open),
                served=self._served,
                refused=dict(self._refused),
                bytes=self._bytes,
                error=self._error,
                error_time=self._error_time,
            )
