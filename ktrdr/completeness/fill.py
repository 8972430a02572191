"""A fill: history of one series that a person requested, with its state. Sends no request.

It lasts until it is done or cancelled. Even when it is done, what it covers is kept complete until
it is cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum, auto

from ktrdr.completeness.coverage import Coverage
from ktrdr.completeness.gaps import SETTLED, Reason
from ktrdr.errors import InvalidRequest, KtrdrError, Misconfigured, Permanent
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import DAY_S

_UNPROVEN = (Reason.LATE, Reason.UNPROVEN)
"""Reasons of missing bars that may not be requested yet."""
_HELD_BY_A_ROW = (Reason.INCOMPLETE_ROW,)
_TO_BE_HAD = tuple(r for r in Reason if r not in SETTLED + _UNPROVEN + _HELD_BY_A_ROW)

DAY_HINT = "name the first day of the history that is wanted, such as 2020-01-01"
AGAIN = "; tried again at "
"""Separates the problem from the time of the retry."""
_REMOVED = "its file is not in the store"
_REMOVED_HINT = "create it with the header line, or cancel the fill"
_UNPROVEN_WHY = "IB reported no bars, which is not verified yet: requested again later"


class State(StrEnum):
    """The state of a fill, in the words of the API."""

    QUEUED = "queued"
    """Waits for its turn."""
    FILLING = "filling"
    """Its bars are being requested."""
    WAITING = "waiting"
    """Waits for something that may pass by itself, such as a lost connection."""
    UNPROVEN = "unproven"
    """It has all bars that IB returned; the missing ones are not proven absent yet (`evidence`)."""
    PAUSED = "paused"
    """A person has paused it: nothing more is requested for it until it is resumed."""
    FAILED = "failed"
    """It needs a person; it is retried all the same, less and less often."""
    DONE = "done"
    """Every bar that was due when the fill was requested is there, or proven absent at IB."""
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """Neither done nor cancelled."""
        return self not in (State.DONE, State.CANCELLED)


class Event(Enum):
    """What becomes known about a fill, or is done to it."""

    QUEUED = auto()
    TAKEN_UP = auto()
    HELD_UP = auto()
    UNPROVEN = auto()
    REFUSED = auto()
    COMPLETED = auto()
    CANCELLED = auto()
    PAUSED = auto()
    RESUMED = auto()


_FROM_OPEN: Mapping[Event, State] = {
    Event.QUEUED: State.QUEUED,
    Event.TAKEN_UP: State.FILLING,
    Event.HELD_UP: State.WAITING,
    Event.UNPROVEN: State.UNPROVEN,
    Event.REFUSED: State.FAILED,
    Event.COMPLETED: State.DONE,
    Event.CANCELLED: State.CANCELLED,
    Event.PAUSED: State.PAUSED,
}
TABLE: Mapping[tuple[State, Event], State] = {
    **{(state, event): to for state in State if state.is_open for event, to in _FROM_OPEN.items()},
    **{(state, Event.RESUMED): state for state in State if state.is_open},
    **{(State.PAUSED, event): State.PAUSED for event in Event},
    (State.PAUSED, Event.RESUMED): State.QUEUED,
    (State.PAUSED, Event.CANCELLED): State.CANCELLED,
    **{(State.DONE, event): State.DONE for event in Event},  # gaps that appear later are new ones
    (State.DONE, Event.CANCELLED): State.CANCELLED,
    **{(State.CANCELLED, event): State.CANCELLED for event in Event},
}
"""The next state for each state and event."""


@dataclass(frozen=True)
class Counts:
    """The bars of a fill, by whole trading days."""

    expected: int
    present: int
    missing: Mapping[str, int]
    """Why, as the value of a `Reason` → bars, none of them 0."""


@dataclass(frozen=True)
class Fill:
    """A series from a day on, however old, and the state of its request."""

    id: int
    """Unique among the fills of a store."""
    series: Series
    since: int
    """UTC midnight of the first day, in UTC seconds."""
    requested_at: int | None
    """UTC seconds; None: it is older than the table of fills."""
    state: State = State.QUEUED
    ended_at: int | None = None
    """When it was done or cancelled (UTC seconds)."""
    counts: Counts | None = None
    """From the first day on, when it was done or paused; None: never counted."""
    paused_at: int | None = None
    """Since when it is paused (UTC seconds); None: it is not."""


@dataclass(frozen=True)
class Progress:
    """The bars of a fill as they are now."""

    counts: Counts
    is_fillable: bool
    """Some bars that were due when the fill was requested can still be filled."""
    is_unproven: bool
    """Some of those bars may not be requested yet, and are not proven absent."""
    is_held: bool = False
    """Some of those bars are not requested, since the file has rows for them that lack a value."""

    @property
    def is_complete(self) -> bool:
        """Nothing more can be filled."""
        return not self.is_fillable and not self.is_unproven and not self.is_held


def progress(coverage: Coverage | None, since: int, until: float) -> Progress | None:
    """The counts of bars from `since` on; bars that start at `until` or later are not waited for.

    Both are UTC seconds, `since` a midnight. None: the expected bars are unknown.
    """
    if coverage is None or coverage.since > since:
        return None
    days = coverage.days
    chosen = days.days >= since
    missing = {reason: int(counts[chosen].sum()) for reason, counts in days.missing.items()}
    return Progress(
        Counts(
            int(days.expected[chosen].sum()),
            int(days.present[chosen].sum()),
            {_now(coverage, reason).value: count for reason, count in missing.items() if count},
        ),
        is_fillable=_has_any(coverage, _TO_BE_HAD, since, until),
        is_unproven=_has_any(coverage, _UNPROVEN, since, until),
        is_held=_has_any(coverage, _HELD_BY_A_ROW, since, until),
    )


def _now(coverage: Coverage, reason: Reason) -> Reason:
    """Days are counted before a series is refused: their `open` bars may have another reason."""
    others = {*SETTLED, *_UNPROVEN, *_HELD_BY_A_ROW, Reason.OPEN, Reason.ASKED}
    refusals = coverage.gap_counts.keys() - others
    return next(iter(refusals), reason) if reason is Reason.OPEN else reason


def _has_any(coverage: Coverage, reasons: tuple[Reason, ...], since: int, until: float) -> bool:
    gaps = coverage.gaps.of(*reasons)
    return bool(((gaps.last >= since) & (gaps.first < until)).any())


@dataclass(frozen=True)
class Trouble:
    """A problem, and what a person can do about it; the latter may be empty."""

    why: str
    hint: str = ""


@dataclass(frozen=True)
class FillFacts:
    """What is known about a fill now."""

    progress: Progress | None
    """None: not known yet."""
    is_there: bool
    """The store has a file for the series."""
    is_assessed: bool
    """The series was assessed after the fill was requested, and the clocks agree."""
    is_requested: bool
    """A request for the series is in flight."""
    error: KtrdrError | None
    """Why the series is deferred or blocked, if that happened after the fill was requested."""
    retry_at: float
    """When it is retried (UTC seconds)."""
    hold: Trouble | None
    """Why the whole gap filler requests nothing; None: it does."""
    incomplete: KtrdrError | None = None
    """Which rows of the file lack a value, if any do."""


def event_of(facts: FillFacts) -> tuple[Event, Trouble]:
    """The event for an open fill, and the problem if it is held up."""
    found, nothing = facts.progress if facts.is_assessed else None, Trouble("")
    if not facts.is_there:
        return Event.REFUSED, Trouble(_REMOVED, _REMOVED_HINT)
    if found is not None and found.is_complete:
        return Event.COMPLETED, nothing
    if (trouble := _trouble(facts)) is not None:
        return trouble
    if facts.is_requested:
        return Event.TAKEN_UP, nothing
    if found is not None and not found.is_fillable:
        return _unfillable(found, facts.incomplete)
    return Event.QUEUED, nothing


def _unfillable(found: Progress, incomplete: KtrdrError | None) -> tuple[Event, Trouble]:
    """The event for a fill of which nothing can be requested now, though bars are missing."""
    if found.is_held and incomplete is not None:
        return Event.REFUSED, Trouble(incomplete.message, incomplete.hint)
    return Event.UNPROVEN, Trouble(_UNPROVEN_WHY)


def _trouble(facts: FillFacts) -> tuple[Event, Trouble] | None:
    """The problem that holds it up: first what needs a person, then what passes by itself."""
    error = facts.error
    if isinstance(error, Permanent | Misconfigured):
        return Event.REFUSED, Trouble(error.message, error.hint)
    if facts.hold is not None:
        return Event.HELD_UP, facts.hold
    if error is None:
        return None
    again = f"{datetime.fromtimestamp(facts.retry_at, UTC):%H:%M:%S} UTC"
    return Event.HELD_UP, Trouble(f"{error.message}{AGAIN}{again}", error.hint)


def first_day(text: str, since: int, now: float) -> int:
    """The UTC midnight at which a fill begins that was requested from `since` on (UTC seconds).

    `text`: how that was written. InvalidRequest: it is before 1970, or in the future.
    """
    if 0 <= since <= now:
        return since - since % DAY_S
    today = datetime.fromtimestamp(now, UTC)
    raise InvalidRequest(
        f"from={text}: expected a day from 1970-01-01 to today, {today:%Y-%m-%d}",
        hint=DAY_HINT,
    )
