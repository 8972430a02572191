"""The comparison of imported series with IB's bars: each as a whole, once. Changes no file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.stored_bars import stored
from ktrdr.completeness.differences import Difference
from ktrdr.errors import KtrdrError, RequestFailed, TimedOut
from ktrdr.filling.fetcher import Fetcher
from ktrdr.filling.ingest import Ingest
from ktrdr.filling.isolation import concerns_all
from ktrdr.filling.rebuilds import Owner
from ktrdr.filling.request_lengths import LearntLengths
from ktrdr.filling.tasks import Kind, Task
from ktrdr.ledger.comparisons import ComparisonRecord
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import DAY_S, HOUR_S
from ktrdr.store.import_record import ImportRecord, import_record
from ktrdr.store.written_rows import WrittenRows

log = logging.getLogger("gap-filler")

_FAILED_S, _FAILED_MOST_S = HOUR_S, DAY_S
"""How long nothing is compared after a request for it has failed: twice as long each time."""
_EMPTY_S = DAY_S
"""How much later IB must lack the same bars again before they, and older ones, are given up."""
_EDGE_BARS = 10
"""If this many are missing at the beginning of an answer, it may be cut off."""


@dataclass(frozen=True)
class ImportComparison:
    """The imported series of one store, some bars of each at a time, the newest first.

    For one thread.
    """

    assessor: Assessor
    ingest: Ingest
    fetcher: Fetcher
    lengths: LearntLengths
    owner: Owner
    clock: Callable[[], float]
    _again_at: dict[Series, float] = field(default_factory=dict)
    """When series are compared again of which a request has failed (UTC seconds)."""
    _failures: dict[Series, int] = field(default_factory=dict)
    """How many requests of a series have failed, one after the other."""

    def is_due(self, state: SeriesState, now: int) -> bool:
        """Imported bars of the series are to be requested, and no missing ones."""
        if state.is_owned or state.error is not None or state.last is None:
            return False
        imported = import_record(state.store.folder, state.series)
        if imported is None:
            return False
        record = self._record(state, imported)
        is_waiting = record.empty_at is not None and 0 <= now - record.empty_at < _EMPTY_S
        if record.is_over or is_waiting or self._again_at.get(state.series, 0.0) > now:
            return False
        return state.coverage is not None and not state.coverage.open_gaps

    def begin(self, state: SeriesState, now: int) -> None:
        """Request the next of its imported bars, as many as a request for missing ones may have."""
        imported = import_record(state.store.folder, state.series)
        if not self.is_due(state, now) or imported is None:
            return
        if self.fetcher.is_requesting(state, Kind.WHOLE):
            return
        record = self._record(state, imported)
        starts = self._starts(state, imported)
        starts = starts[starts < record.reached]
        if not len(starts):
            self._keep(state, record._replace(is_over=True))
            return
        length_s = state.series.timeframe.length_s
        end = int(starts[-1]) + length_s
        first = int(starts[0])
        if state.instrument.can_be_paged:
            known = self.lengths.known(self.assessor.ledger)
            longest = known.seconds(state.series.timeframe, state.instrument)
            first = int(starts[np.searchsorted(starts, end - longest)])
        request = BarsRequest(state.instrument, state.series.timeframe, first, end)
        self.fetcher.request_bars(Kind.WHOLE, state, request, Priority.BACKFILL)

    def take(self, task: Task, receive: Callable[[], Answer]) -> bool:
        """Compare an answer with the stored bars, and record how far that went. True: go on.

        `receive` returns the answer, or raises why there is none. Then it is tried again later, and
        the series is none the worse for it.
        """
        state, now = task.state, int(self.clock())
        try:
            answer = receive()
        except KtrdrError as error:
            if concerns_all(error):
                raise
            if isinstance(error, TimedOut):
                self.lengths.timed_out(self.assessor.ledger, task.bars_request)
            failures = self._failures.get(state.series, 0)
            self._again_at[state.series] = now + min(_FAILED_S * 2**failures, _FAILED_MOST_S)
            self._failures[state.series] = failures + 1
            self.owner.report(str(state.series), error)
            return False
        self._failures.pop(state.series, None)
        took_s, bars = self.fetcher.took_s(task), len(answer.bars)
        self.lengths.answered(self.assessor.ledger, task.bars_request, took_s, bars)
        imported = import_record(state.store.folder, state.series)
        if state.is_owned or state.is_rebuilding or imported is None:
            return False
        self._take(state, imported, task.bars_request, answer, now)
        return self.is_due(state, now)

    def _take(
        self,
        state: SeriesState,
        imported: ImportRecord,
        request: BarsRequest,
        answer: Answer,
        now: int,
    ) -> None:
        record = self._record(state, imported)
        starts = self._starts(state, imported)
        left = starts[starts < record.reached]
        if (left >= request.end).any() or not (left >= request.start).any():
            return  # it has begun anew since this was requested, or the rows are gone
        passed = _passed(left, request, answer)
        received = {bar.start: bar for bar in self.ingest.grids.comparable(state, answer)}
        if not len(passed) or not received:
            self._note_empty(state, record, left, request, now)
            return
        there = stored(state, received)
        pairs = [(old, received[old.start]) for old in there]
        found = self.assessor.differences.take(state, pairs, now)
        if self.assessor.ledger.comparisons.of(state.series) is None:
            # IB has otherwise what it had before: it begins anew, though not at once.
            self._again_at[state.series] = now + _EMPTY_S
            return
        there_now = passed[np.isin(passed, np.array([*received], np.int64))]
        compared = record.compared + len(there_now)
        absent = record.absent + len(passed) - len(there_now)
        before = int((left < passed[0]).sum())
        self._keep(
            state,
            record._replace(
                reached=int(passed[0]),
                total=compared + absent + before,
                compared=compared,
                absent=absent,
                unlisted=record.unlisted + _bars_of(found.unlisted, there_now),
                empty_at=None,
                is_over=not before,
            ),
        )

    def _note_empty(
        self,
        state: SeriesState,
        record: ComparisonRecord,
        left: Int64Array,
        request: BarsRequest,
        now: int,
    ) -> None:
        """IB has none of the requested bars; a day later these are given up, but no older ones.

        Its history may have a hole. All are if it begins later, by IB's own word.
        """
        if record.empty_at is None or record.empty_at > now:
            self._keep(state, record._replace(empty_at=now))
            return
        if now - record.empty_at < _EMPTY_S:
            return
        head = self.assessor.contracts.lifetime(state.instrument).head
        is_before = head is not None and int(left[-1]) + state.series.timeframe.length_s <= head
        gone = left if is_before else left[left >= request.start]
        record = record._replace(
            reached=int(gone[0]),
            absent=record.absent + len(gone),
            is_over=len(gone) == len(left),
        )
        self._keep(state, record)

    def _record(self, state: SeriesState, imported: ImportRecord) -> ComparisonRecord:
        """How far this import was compared; it begins anew if there was another one before."""
        ledger = self.assessor.ledger
        known = ledger.comparisons.of(state.series)
        if known is not None and known.checksum == imported.checksum:
            return known
        if known is not None:
            ledger.differences.forget(state.series)
        total = len(self._starts(state, imported))
        record = ComparisonRecord(imported.checksum, imported.last + 1, total)
        self._keep(state, record)
        return record

    def _keep(self, state: SeriesState, record: ComparisonRecord) -> None:
        self.assessor.ledger.comparisons.keep(state.series, record)
        self.assessor.differences.load(state)
        if record.is_over:
            self._report_end(state)

    def _report_end(self, state: SeriesState) -> None:
        done = state.compared
        words = f"compared with IB's bars: {done.compared} of {done.total}, {done.differ} differ"
        if not done.compared:
            log.info("%s: not compared: IB has none of %d bars", state.series, done.absent)
            return
        if not done.differ:
            log.info("%s: %s", state.series, words)
            return
        self.owner.report(
            str(state.series),
            RequestFailed(
                f"{words}; the file is left as it is",
                hint="the page of the series lists what differs; delete the rows that should be "
                "requested again",
            ),
        )

    def _starts(self, state: SeriesState, imported: ImportRecord) -> Int64Array:
        """The starts of the imported bars in the file: not those that ktrdr wrote between them."""
        starts = state.store.contents(state.series, imported.first).starts
        starts = starts[(starts >= imported.first) & (starts <= imported.last)]
        written = WrittenRows(state.series, self.assessor.ledger.file.database).pieces()
        ours = [piece.starts for piece in written]
        return np.setdiff1d(starts, np.concatenate(ours), assume_unique=True) if ours else starts


def _bars_of(some: Sequence[Difference], starts: Int64Array) -> int:
    """How many bars of these differences start then; others are counted with their own answer."""
    firsts, lasts = ([getattr(one, name) for one in some] for name in ("first", "last"))
    before, until = np.searchsorted(starts, firsts), np.searchsorted(starts, lasts, side="right")
    return int((until - before).sum())


def _passed(left: Int64Array, request: BarsRequest, answer: Answer) -> Int64Array:
    """Which of the bars that are left an answer has settled: IB has them, or it does not.

    It may be cut off, though not by a few bars: these IB does not have.
    """
    wanted = left[(left >= request.start) & (left < request.end)]
    if not answer.bars:
        return wanted[:0]
    oldest = answer.bars[0].start
    return wanted if int((wanted < oldest).sum()) < _EDGE_BARS else wanted[wanted >= oldest]
