"""The API's answers where they are not the programs' own messages. Encodes none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from ktrdr.ipc.messages import (
    DayStatus,
    DetailedCoverage,
    FillStatus,
    QueuedSeries,
    SeriesCoverage,
    SeriesFacts,
    Time,
)
from ktrdr.ipc.revision_messages import RevisionStatus
from ktrdr.ipc.series_messages import GridRow
from ktrdr.times import utc


@dataclass(frozen=True)
class ProblemDetails:
    """Why a request was refused or failed (RFC 9457)."""

    type: str
    """Where the kind of problem is explained; `about:blank`: it is HTTP's own."""
    title: str
    status: int
    detail: str
    """What was wrong, with its value."""
    outcome: str
    """The kind of problem in one word."""
    reason: str
    """The same as `detail`, for people who have only one line."""
    hint: str | None
    """What to do."""


@dataclass(frozen=True)
class MissingRun:
    """A run of bars that are missing for one reason."""

    first: Time
    last: Time
    """Starts of the first and of the last one."""
    bars: int
    reason: str


@dataclass(frozen=True)
class CoveredSeries(SeriesFacts):
    """One file of the store, with its gaps and days."""

    gaps: list[MissingRun] = field(default_factory=list)
    days: list[DayStatus] = field(default_factory=list)


@dataclass(frozen=True)
class CoverageAnswer:
    """Which bars each series should have and has, day by day."""

    scan_time: Time | None
    series: list[CoveredSeries] | None
    """None: the gap filler does not answer."""
    reason: str | None = None
    """Why it does not."""


@dataclass(frozen=True)
class BarsAnswer:
    """Bars of one series."""

    symbol: str
    timeframe: str
    source: str | None
    """`live` or `simulated`; None: not known."""
    complete: bool
    """It is proven that no bar is missing."""
    why: str
    """Why it is not."""
    next: str | None
    """Where the bars are that `limit` has left out."""
    columns: list[str]
    bars: list[Annotated[list[str | float], Field(min_length=6, max_length=6)]]
    """The values of a bar, in the order of `columns`."""
    count: int
    """How many bars there are here."""


@dataclass(frozen=True)
class GridAnswer:
    """All series by trading day, a character a day."""

    series: list[GridRow] | None
    """None: the gap filler does not answer."""
    reason: str | None = None
    """Why it does not."""
    version: str | None = None
    """It changes exactly when anything else here does."""
    first: str | None = None
    """The first trading day, such as `2026-11-20`."""
    days: int | None = None
    legend: Mapping[str, str] = field(default_factory=dict)
    """Character → state of the day."""
    columns: tuple[str, ...] = GridRow._fields
    """What stands where in each of `series`."""
    known_at: Time | None = None
    """When this was last known, while the gap filler does not answer."""


@dataclass(frozen=True)
class RevisionsAnswer:
    """The stored bars of one series that IB revised and that were corrected."""

    symbol: str
    timeframe: str
    revisions: list[RevisionStatus] | None
    """The newest first; None: the gap filler does not answer."""
    reason: str | None = None
    """Why it does not."""
    total: int | None = None
    """How many are on record for the requested bars: of the last year, 1,000 at most."""
    next: str | None = None
    """Where those are that `limit` has left out."""


@dataclass(frozen=True)
class FillsAnswer:
    """The fills that were requested, and which series come next."""

    fills: list[FillStatus] | None
    """None: the gap filler does not answer."""
    reason: str | None = None
    """Why it does not."""
    queue: list[QueuedSeries] = field(default_factory=list)
    rule: str = ""
    """Why in this order."""


@dataclass(frozen=True)
class ConcernAnswer:
    """Something that is not as it should be."""

    what: str
    cause: str
    consequence: str


@dataclass(frozen=True)
class PersonConcernAnswer(ConcernAnswer):
    """Something that stays wrong until a person acts."""

    next_step: str


@dataclass(frozen=True)
class ServiceAnswer:
    """One of the programs."""

    status: str
    healthy: bool
    pid: int | None
    uptime_s: float | None
    cpu_percent: float | None
    rss_bytes: int | None


@dataclass(frozen=True)
class SystemAnswer:
    """The verdict, and the programs."""

    health: str
    """`healthy`, `degraded` or `critical`."""
    summary: str
    needs_person: list[PersonConcernAnswer]
    heals: list[ConcernAnswer]
    """What goes away by itself."""
    services: Mapping[str, ServiceAnswer]


@dataclass(frozen=True)
class RequestedAction:
    """What a program was requested to do; the end of it was not waited for."""

    program: str
    action: str


@dataclass(frozen=True)
class ListeningAnswer:
    """One address at which port-forward listens."""

    name: str
    takes: str
    trouble: str | None


@dataclass(frozen=True)
class ForwardingAnswer:
    """The state of port-forward; all counts since its start."""

    running: bool
    reason: str | None
    """Why nothing else is known."""
    port: int | None = None
    target: str | None = None
    copying: bool | None = None
    since: Time | None = None
    listening: list[ListeningAnswer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    open_calls: int | None = None
    full: list[str] = field(default_factory=list)
    calls: int | None = None
    refused: Mapping[str, int] = field(default_factory=dict)
    bytes: int | None = None
    """In both directions."""
    gateway: str | None = None
    gateway_why: str | None = None
    last_error: str | None = None
    last_error_time: Time | None = None


@dataclass(frozen=True)
class LogAnswer:
    """The end of a program's log."""

    file: str
    lines: list[str]
    """The oldest first."""
    reason: str | None
    """Why there are none."""


def coverage_answer(found: DetailedCoverage) -> CoverageAnswer:
    """The gap filler's coverage with times instead of UTC seconds, and nothing of its own."""
    return CoverageAnswer(found.scan_time, [_covered(one) for one in found.series])


def _covered(one: SeriesCoverage) -> CoveredSeries:
    facts = {name: value for name, value in vars(one).items() if name not in ("key", "gaps")}
    gaps = [
        MissingRun(utc(first), utc(last), bars, reason) for first, last, bars, reason in one.gaps
    ]
    return CoveredSeries(**facts, gaps=gaps)
