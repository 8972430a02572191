"""The calls of a forwarder: which are served, and what is counted and said of them. Opens none."""

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

MAX_CALLS_OF_ONE = 32
"""IB's limit of clients for one gateway: no caller has use for more."""
MAX_CALLS = 2 * MAX_CALLS_OF_ONE
"""So one caller that takes all it may shuts nobody out."""

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


@dataclass(frozen=True)
class CallCounts:
    """What was counted since the start, at one moment."""

    open: int
    full: tuple[str, ...]
    """As `full` has it."""
    served: int
    refused: Mapping[str, int]
    """Reason → calls."""
    bytes: int
    """Of the calls that are over."""
    error: str
    error_time: float | None


class Calls:
    """All calls of one forwarder. Thread-safe: each is served by a thread of its own."""

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
        """Some are not over yet."""
        with self._lock:
            return bool(self._open)

    def admit(self, place: Place | None, caller: str, reached: str) -> Refusal | None:
        """Count a call as open; or why it is refused, as `refusal` decides."""
        with self._lock:
            why = refusal(place, caller, reached, self._open)
            if why is None:
                self._open[caller] += 1
            else:
                self._refused[why.reason] += 1
        return why

    def ended(self, caller: str) -> None:
        """One that was open is over."""
        with self._lock:
            self._open[caller] -= 1
            self._open += Counter()  # drops those that have none

    def not_reached(self) -> None:
        """One could not be passed on."""
        with self._lock:
            self._refused["no_gateway"] += 1

    def connected(self, caller: str, gateway: str) -> bool:
        """One is passed on; whether that is told in the log, as it is of not too many."""
        with self._lock:
            self._served += 1
            is_logged = self._lines.writes("call", time.monotonic())
        if is_logged:
            log.info("%s is connected to %s", caller, gateway)
        return is_logged

    def passed(self, caller: str, count: int, failed: str, *, is_logged: bool) -> None:
        """It was, with so many bytes; `failed`: how it broke, else empty."""
        with self._lock:
            self._bytes += count
            if failed and not is_logged:
                is_logged = self._lines.writes("broken call", time.monotonic())
        if is_logged:
            why = f": {failed}" if failed else ""
            log.info("%s is disconnected after %d bytes%s", caller, count, why)

    def note_error(self, kind: str, words: str) -> None:
        """A warning; the same again only once a minute."""
        with self._lock:
            self._error, self._error_time = words, time.time()
            is_logged = self._lines.writes(kind, time.monotonic(), once=words)
        if is_logged:
            log.warning("%s", words)

    def sum_up(self, now_s: float) -> None:
        """Log what was left out of the log until then."""
        with self._lock:
            summaries = list(self._lines.summaries(now_s))
        for line in summaries:
            log.info("%s", line)

    def counts(self) -> CallCounts:
        """What was counted so far."""
        with self._lock:
            return CallCounts(
                open=sum(self._open.values()),
                full=full(self._open),
                served=self._served,
                refused=dict(self._refused),
                bytes=self._bytes,
                error=self._error,
                error_time=self._error_time,
            )
