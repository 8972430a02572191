"""The error state of a series: what failed, and when it is retried. One table; retries nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from ktrdr.errors import KtrdrError, MalformedFile, Misconfigured, Permanent

_RETRY_S, _RETRY_MAX_S = 30.0, 1800.0
_PERMANENT_RETRY_S = (60.0, 300.0, 1800.0, 7200.0, 6 * 3600.0)
"""For errors that need a person according to IB, which is sometimes wrong."""


class State(StrEnum):
    """The state of a series by its last error."""

    OK = "ok"
    """No error."""
    DEFERRED = "deferred"
    """Something failed: it is retried later."""
    BLOCKED = "blocked"
    """Its file or its entry is broken: nothing is requested or written until that changes."""
    NO_FILE = "no_file"
    """It has no file of its own: it is left alone until a scan finds one."""


class Event(Enum):
    """What happens to a series."""

    SUCCEEDED = auto()
    """A request for it, or reading its file, succeeded."""
    FAILED = auto()
    """A request for it, or reading its file, failed."""
    BROKEN = auto()
    """Its file or its entry is invalid."""
    NO_FILE = auto()
    """A scan has found that it has no file of its own."""
    HAS_FILE = auto()
    """A scan has found that it has one."""


_USUALLY = {
    Event.SUCCEEDED: State.OK,
    Event.FAILED: State.DEFERRED,
    Event.BROKEN: State.BLOCKED,
    Event.NO_FILE: State.NO_FILE,
}
TABLE: dict[tuple[State, Event], State] = {
    **{(state, Event.HAS_FILE): state for state in State},
    **{(state, event): after for state in State for event, after in _USUALLY.items()},
    **{(State.NO_FILE, event): State.NO_FILE for event in Event},  # until it has a file
    (State.NO_FILE, Event.HAS_FILE): State.BLOCKED,  # until it was read
}
"""The next state for each state and event."""


def diagram() -> str:
    """The table as a Mermaid state diagram; an event that changes nothing has no arrow."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.OK}"]
    for (state, event), after in TABLE.items():
        if state is not after:
            lines.append(f"    {state} --> {after}: {event.name.lower()}")
    return "\n".join(lines)


@dataclass(frozen=True)
class ErrorState:
    """The state of a series, with the error that led to it."""

    state: State = State.OK
    error: KtrdrError | None = None
    failures: int = 0
    """In a row."""
    retry_at: float = 0.0
    """Nothing is requested before then (UTC seconds)."""

    @property
    def is_blocked(self) -> bool:
        """Nothing may be requested or written until a person or a scan resolves it."""
        return self.state in (State.BLOCKED, State.NO_FILE)

    def succeeded(self) -> ErrorState:
        """After a success: no error."""
        return ErrorState(TABLE[self.state, Event.SUCCEEDED])

    def failed(
        self, error: KtrdrError, now: float, delays_s: Sequence[float] | None = None
    ) -> ErrorState:
        """After a failure: deferred for a growing time, longer if it needs a person.

        `delays_s`: for how long, after each failure in a row; the last one repeats.
        """
        failures = self.failures + 1
        if delays_s is None and isinstance(error, Permanent):
            delays_s = _PERMANENT_RETRY_S
        if delays_s is not None:
            delay = delays_s[min(failures, len(delays_s)) - 1]
        else:
            delay = min(_RETRY_S * 2 ** (failures - 1), _RETRY_MAX_S)
        return ErrorState(TABLE[self.state, _event(error)], error, failures, now + delay)

    def broken(self, error: MalformedFile | Misconfigured) -> ErrorState:
        """Blocked until its file or its entry changes."""
        return replace(self, state=TABLE[self.state, Event.BROKEN], error=error)

    def no_file(self, why: MalformedFile) -> ErrorState:
        """Left alone until a scan finds a file of its own."""
        return replace(self, state=TABLE[self.state, Event.NO_FILE], error=why)

    def has_file(self) -> ErrorState:
        """After a scan has found a file, which is still to be read."""
        return replace(self, state=TABLE[self.state, Event.HAS_FILE])

    def retry_now(self) -> ErrorState:
        """After the cause is over: it may be retried at once."""
        return replace(self, failures=0, retry_at=0.0)

    def cleared(self) -> ErrorState:
        """Its error is handled elsewhere; the count of failures is kept."""
        return replace(self, state=State.OK, error=None)


def _event(error: KtrdrError) -> Event:
    return Event.BROKEN if isinstance(error, MalformedFile | Misconfigured) else Event.FAILED
