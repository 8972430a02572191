"""Fills of a running gap filler: the progress of each, and why it waits. Requests no bars.

One thread assesses them; any thread may request, pause, cancel and list them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ktrdr.assessment.series_state import SeriesSnapshot
from ktrdr.completeness.coverage import Coverage
from ktrdr.completeness.fill import (
    TABLE,
    Fill,
    FillFacts,
    Progress,
    State,
    Trouble,
    event_of,
    progress,
)
from ktrdr.completeness.fill_rate import RecentCounts, eta_words
from ktrdr.errors import KtrdrError, StoreUnwritable
from ktrdr.ipc.messages import FillStatus
from ktrdr.ledger.fills import FillRecords
from ktrdr.market.instruments import Series
from ktrdr.times import moment

_REBUILDING = Trouble("IB revised its bars: the whole series is rebuilt first")
_UNWATCHED = Trouble(
    "its series is not watched", "add it again with .venv/bin/ktrdr watch add, or cancel the fill"
)
_NO_COUNTS = RecentCounts()


@dataclass(frozen=True)
class AssessedFill:
    """An open fill as last assessed."""

    state: State
    trouble: Trouble
    progress: Progress | None
    coverage: Coverage | None
    """What the progress was counted from."""
    recent: RecentCounts = _NO_COUNTS

    @property
    def bars_per_s(self) -> float | None:
        """How fast its bars have arrived lately; None: not known, or they do not."""
        return self.recent.bars_per_s if self.state is State.FILLING else None


@dataclass(frozen=True)
class FillContext:
    """What fills are assessed by: all series at one moment."""

    series: Mapping[Series, SeriesSnapshot]
    is_there: Callable[[Series], bool]
    """The store has a file of the series, known to the last scan or not."""
    current: Collection[str]
    """Series with requests in flight."""
    hold: Trouble | None
    """Why nothing at all is requested."""
    clocks_agree: bool
    now: float
    unwatched: frozenset[Series] = frozenset()
    """Series that are left alone."""


class Fills:
    """The fills that people have requested, of one store."""

    def __init__(self, records: FillRecords) -> None:
        self._ledger = records
        self._open: list[Fill] = []
        self._is_stale = True
        """The records have changed since they were read."""
        self._unseen: set[int] = set()
        """Fills requested since the last scan began: the errors of their series are older."""
        self._assessed: Mapping[int, AssessedFill] = {}
        """Id of an open fill → its assessment; replaced whole, so that any thread may read it."""

    # Any thread.

    def request(self, series: Series, since: int, now: float) -> Fill:
        """Record a fill from a UTC midnight on; StoreUnwritable: it could not be recorded."""
        fill = self._ledger.request(series, since, int(now))
        self._unseen.add(fill.id)
        self._is_stale = True
        return fill

    def cancel(self, ids: Collection[int], now: float) -> list[Fill]:
        """Cancel these; bars already fetched stay. StoreUnwritable: none was."""
        cancelled = self._ledger.cancel(ids, int(now))
        self._is_stale = True
        return cancelled

    def pause(self, id_: int, snapshot: FillContext) -> Fill | None:
        """Pause a fill; bars already fetched stay. None: there is none. StoreUnwritable as above.

        One that is done or cancelled stays as it is.
        """
        assessed = self._assessed.get(id_)
        counts = assessed.progress.counts if assessed and assessed.progress else None
        fill = self._ledger.pause(id_, counts, int(snapshot.now))
        self._is_stale = True
        return fill

    def resume(self, id_: int) -> Fill | None:
        """Go on with a paused fill. None, StoreUnwritable: as `pause`."""
        fill = self._ledger.resume(id_)
        self._is_stale = True
        return fill

    def listed(self) -> list[Fill]:
        """All of them, oldest first. StoreUnwritable: the ledger cannot be read."""
        return self._ledger.listed()

    def status(self, fill: Fill, snapshot: FillContext) -> FillStatus:
        """The status of a fill now: its last assessment may be old."""
        is_active = fill.state.is_open and fill.state is not State.PAUSED
        assessed = self._assess_fill(fill, snapshot) if is_active else None
        counts = assessed.progress.counts if assessed and assessed.progress else fill.counts
        trouble = assessed.trouble if assessed else Trouble("")
        bars_per_s = assessed.bars_per_s if assessed else None
        return FillStatus(
            id=fill.id,
            symbol=fill.series.symbol,
            timeframe=fill.series.timeframe.value,
            since=datetime.fromtimestamp(fill.since, UTC),
            state=(assessed.state if assessed else fill.state).value,
            why=trouble.why,
            hint=trouble.hint,
            expected=counts.expected if counts else None,
            present=counts.present if counts else None,
            missing=counts.missing if counts else {},
            requested_at=moment(fill.requested_at),
            ended_at=moment(fill.ended_at),
            paused_at=moment(fill.paused_at),
            bars_per_s=round(bars_per_s, 1) if bars_per_s else None,
            eta_words=eta_words(counts, bars_per_s) if counts else "",
        )

    @property
    def counts(self) -> dict[str, int]:
        """State → open fills."""
        counts = Counter(assessed.state for assessed in self._assessed.values())
        return {state.value: n for state, n in counts.items() if state.is_open}

    # The stepping thread.

    def scan_begins(self) -> None:
        """Note that all series are assessed again: errors from now on count."""
        self._unseen.clear()
        self._is_stale = True  # the ledger may have been deleted

    def assess(self, snapshot: FillContext) -> None:
        """Assess each fill, and record which are done."""
        with contextlib.suppress(StoreUnwritable):  # retried the next time
            if self._is_stale:
                self._is_stale = False
                self._read()
            assessed = {fill.id: self._assess_fill(fill, snapshot) for fill in self._open}
            self._assessed = {id_: _counted(one, snapshot.now) for id_, one in assessed.items()}
            for fill in list(self._open):
                self._write_if_done(fill, int(snapshot.now))

    def _read(self) -> None:
        try:
            self._open = [fill for fill in self._ledger.listed() if fill.state.is_open]
        except StoreUnwritable:
            self._is_stale = True
            raise

    def _write_if_done(self, fill: Fill, now: int) -> None:
        assessed = self._assessed[fill.id]
        if assessed.state is State.DONE and assessed.progress is not None:
            self._ledger.complete(fill.id, assessed.progress.counts, now)
            self._open.remove(fill)

    def _assess_fill(self, fill: Fill, snapshot: FillContext) -> AssessedFill:
        series_state, last = snapshot.series.get(fill.series), self._assessed.get(fill.id)
        coverage = series_state.coverage if series_state else None
        is_same = last is not None and last.coverage is coverage and coverage is not None
        requested_at = min(fill.requested_at or 0, snapshot.now)
        until = requested_at if fill.requested_at else snapshot.now
        found = last.progress if is_same and last else progress(coverage, fill.since, until)
        event, trouble = event_of(
            FillFacts(
                progress=found,
                is_there=series_state is not None or snapshot.is_there(fill.series),
                is_assessed=snapshot.clocks_agree
                and coverage is not None
                and coverage.until >= requested_at,
                is_requested=str(fill.series) in snapshot.current,
                error=self._error_of(fill, series_state),
                retry_at=series_state.retry_at if series_state else 0.0,
                hold=_hold(fill, series_state, snapshot),
                incomplete=series_state.incomplete if series_state else None,
            )
        )
        state = TABLE[fill.state, event]
        if state is State.PAUSED:
            return AssessedFill(state, Trouble(""), found, coverage)
        recent = last.recent if last else _NO_COUNTS
        return AssessedFill(state, trouble, found, coverage, recent)

    def _error_of(self, fill: Fill, series_state: SeriesSnapshot | None) -> KtrdrError | None:
        return None if series_state is None or fill.id in self._unseen else series_state.error


def _hold(fill: Fill, series: SeriesSnapshot | None, snapshot: FillContext) -> Trouble | None:
    """Why nothing is requested for the fill, apart from errors of its series."""
    if fill.series in snapshot.unwatched:
        return _UNWATCHED
    return _REBUILDING if series and series.is_rebuilding else snapshot.hold


def _counted(assessed: AssessedFill, now: float) -> AssessedFill:
    """With the count of its bars now, while it is being filled."""
    if assessed.state is not State.FILLING or assessed.progress is None:
        return assessed
    recent = assessed.recent.with_count(now, assessed.progress.counts.present)
    return replace(assessed, recent=recent)
