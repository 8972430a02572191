"""The messages on one day of a series: its bars, the requests for them, and what these prove."""

from __future__ import annotations

from dataclasses import dataclass

from ktrdr.ipc.messages import Time


@dataclass(frozen=True)
class RequestEvidence:
    """One request for bars that touched a trading day, and what came of it."""

    requested_at: Time
    start: Time
    end: Time
    """The interval `[start, end)` that was requested."""
    outcome: str
    """`bars`, `no_data`, or the name of an error."""
    code: int | None
    """IB's."""
    bars: int
    """How many were received, of the whole interval."""
    absent: int = 0
    """Bars of the day that count as absent by its answer."""
    late: int = 0
    """Bars of the day that its answer did not have yet."""


@dataclass(frozen=True)
class AbsenceEvidence:
    """A run of bars of a trading day that IB's answers did not have."""

    first: Time
    last: Time
    bars: int
    reason: str
    """`no_trades` (proven), `late` or `unproven`."""
    since: Time
    """When the request was sent whose answer shows it; if unproven, the first such request."""
    times: int | None
    """How many answers did not have them so far; None: not counted any more."""
    again_at: Time
    """When they may be requested again."""


@dataclass(frozen=True)
class DayEvidence:
    """The response of `GET /requests`."""

    day: str
    requests: tuple[RequestEvidence, ...]
    """The newest of the last 30 days, the newest first."""
    absences: tuple[AbsenceEvidence, ...]


@dataclass(frozen=True)
class DayBars:
    """The response of `GET /coverage` with a `day`."""

    day: str
    state: str
    """`open`; or why it has no bars: `closed`, `before_listing`, `expired`, `not_looked_at`."""
    bars: list[tuple[int, str]]
    """Start (UTC seconds), and `present`, `not_due` or why it is missing."""
