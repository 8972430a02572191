"""Ingest of an answer: writes the accepted bars to the file, and the rest to the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap, Reason, among, runs
from ktrdr.completeness.revisions import Revision
from ktrdr.errors import RequestFailed
from ktrdr.filling.absence_proofs import AbsenceProofs
from ktrdr.filling.comparison import Comparison, wants_more
from ktrdr.filling.grid_findings import GridFindings, Report
from ktrdr.filling.later_requests import LaterRequests
from ktrdr.filling.unscheduled_bars import UnscheduledBars, without_closed
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.sessions import BoolArray, Expected, finished
from ktrdr.times import iso


@dataclass(frozen=True)
class IngestResult:
    """What one answer led to."""

    added: int
    """New bars in the file."""
    wants_control: tuple[Gap, ...] = ()
    """Gaps that only lack a control to count as absent."""
    revision: Revision | None = None
    """Bars that differ from the stored ones."""
    is_withheld: bool = False
    """The answer is, or may be, in another unit than the stored bars.

    Nothing of it was written, and nothing missing from it counts as absent.
    """
    is_shifted: bool = False
    """Its bars begin at other minutes than the stored ones: nothing was written."""

    @property
    def revised(self) -> list[int]:
        """The starts of the bars that differ."""
        return [bar.start for bar in self.revision.changed] if self.revision else []


@dataclass(frozen=True)
class _Accepted:
    """The accepted part of an answer."""

    answer: Answer
    received: int
    """How many bars it had, accepted or not."""
    outside: tuple[Bar, ...] = ()
    """Bars at unexpected times or minutes, not accepted yet."""
    is_damaged: bool = False
    """Nothing missing from it counts as absent."""
    again_s: int | None = None
    """As in `Gridded`."""
    is_shifted: bool = False
    """As in `Gridded`: nothing is to be written."""


class Ingest:
    """Ingests answers into the files and the ledger of one store. For one thread."""

    def __init__(self, assessor: Assessor, report: Report, late_s: float) -> None:
        """`late_s`: how long until a late bar is requested again."""
        ledger, sessions, contracts = assessor.ledger, assessor.sessions, assessor.contracts
        self._assessor = assessor
        self._sessions = sessions
        self._requests = ledger.requests
        self._report = report
        self._unscheduled = UnscheduledBars(ledger.absences, sessions, contracts)
        self.grids = GridFindings(ledger.absences, sessions, contracts, report)
        self.absences = AbsenceProofs(
            ledger.absences, ledger.requests, sessions, contracts, self._unscheduled
        )
        self.later = LaterRequests(ledger.absences, late_s)
        self.comparison = Comparison(assessor.ownership, ledger.revisions, assessor.differences)

    def take(
        self,
        state: SeriesState,
        request: BarsRequest,
        answer: Answer,
        requested_at: int,
        *,
        is_sure: bool = True,
    ) -> IngestResult:
        """Write the finished bars of an answer, and record which ones IB does not have.

        Neither if the bars have, or may have, another unit or contract. Unless the time
        `is_sure`, nothing missing from the answer counts as absent.
        FileNotFoundError: the file is gone. StoreUnwritable, MalformedFile: nothing was written.
        """
        series, span = state.series, (request.start, request.end)
        if self._sessions.known_schedule(state.instrument) is None:
            raise RequestFailed(
                f"{series}: its sessions are unknown, so its bars cannot be assessed"
            )
        self.notice_foreign(state, requested_at)
        accepted = self._accept(state, request, answer, requested_at, is_sure=is_sure)
        if accepted.is_shifted:
            self._requests.refused(series, *span, requested_at, "other_grid", None)
            return IngestResult(0, is_shifted=True)
        since = self._assessor.fill_from(state, requested_at)
        schedule = self._sessions.known_schedule(state.instrument)
        assert schedule is not None
        expected = self._assessor.contracts.expected(
            state, schedule, since, requested_at, requested_at
        )
        requested = (expected.starts >= span[0]) & (expected.starts < span[1])
        # An answer on another grid is not compared: its bars have other starts than stored ones.
        is_odd, answer = accepted.again_s is not None, accepted.answer
        revision = None
        if not is_odd:
            revision = self.comparison.compare(state, answer, span, requested_at)
        if revision is not None and wants_more(state, revision):
            self._requests.answered(series, *span, requested_at, accepted.received)
            return IngestResult(0, revision=revision, is_withheld=True)
        self.later.was_written(state)
        there = state.store.contents(series, since).row_starts
        done = finished(answer.bars, expected.starts[requested], series.timeframe, requested_at)
        added = state.store.add(series, done, is_foreign=not state.is_owned)
        if added:
            self._assessor.ownership.note_written(state)
        if is_odd:
            self._requests.refused(series, *span, requested_at, "other_grid", None)
        else:
            self._requests.answered(series, *span, requested_at, accepted.received)
        written = np.array([bar.start for bar in done], np.int64)
        new = among(expected.starts, written[~among(written, there)])
        unproven = self._request_missing(
            state, accepted, expected, requested, new, requested_at, is_sure=is_sure
        )
        return IngestResult(added, unproven, revision)

    def take_streamed(self, state: SeriesState, bar: Bar, now: int) -> int:
        """Write a finished bar that came without a request; how many were added. As `take`."""
        end = bar.start + state.series.timeframe.length_s
        request = BarsRequest(state.instrument, state.series.timeframe, bar.start, end)
        return self.take(state, request, Answer([bar]), now).added

    def _request_missing(
        self,
        state: SeriesState,
        accepted: _Accepted,
        expected: Expected,
        requested: BoolArray,
        new: BoolArray,
        requested_at: int,
        *,
        is_sure: bool,
    ) -> tuple[Gap, ...]:
        """Record which of the `requested` bars are missing from an answer.

        `new`: the bars that the answer added. Returns the gaps that only lack a control.
        """
        answer, due = (
            accepted.answer,
            Expected(expected.starts[requested], expected.days[requested]),
        )
        if accepted.is_damaged:
            self.later.request_unproven(state, answer, due, requested_at, accepted.again_s)
            return ()
        if not is_sure:
            self.later.request_soon(state, answer, due, requested_at)
            return ()
        schedule = self._sessions.known_schedule(state.instrument)
        assert schedule is not None
        requested = requested & ~self._request_outside(
            state, expected, accepted.outside, requested_at
        )
        soon = requested_at + self.later.late_for(state, answer, due, schedule, requested_at)
        return self.absences.weigh(
            state, schedule, expected, requested, answer, new, requested_at, soon
        )

    def _accept(
        self,
        state: SeriesState,
        request: BarsRequest,
        answer: Answer,
        requested_at: int,
        *,
        is_sure: bool,
    ) -> _Accepted:
        """The part of an answer that may be written; the rest is reported and recorded.

        Sessions and grids that the bars show are learnt.
        """
        schedule = self._sessions.known_schedule(state.instrument)
        assert schedule is not None
        answer, outside = without_closed(answer, schedule, request.timeframe)
        if self._sessions.are_of_another(state.instrument):
            outside = []  # they are requested again if its own sessions have them
        gridded = self.grids.by_grid(state, schedule, answer, requested_at, is_sure=is_sure)
        answer, received = gridded.answer, len(gridded.answer.bars) + len(outside)
        if gridded.is_shifted:
            return _Accepted(answer, received, is_shifted=True)
        is_damaged = bool(answer.invalid) or gridded.is_incomplete
        outside += gridded.odd
        if outside:
            repeated, outside, is_shifted = self._unscheduled.screen(
                state, request, answer, outside, requested_at, is_sure=is_sure
            )
            is_damaged |= is_shifted
            answer = answer._replace(bars=sorted([*answer.bars, *repeated]))
            schedule = self._sessions.known_schedule(state.instrument) or schedule
        self._report_invalid(
            state,
            request,
            answer.invalid,
            [bar.start for bar in outside if bar not in gridded.odd],
            [bar.start for bar in outside if bar in gridded.odd],
        )
        self.grids.learn_alignment(state, schedule, answer)
        return _Accepted(answer, received, tuple(outside), is_damaged, gridded.again_s)

    def _request_outside(
        self, state: SeriesState, expected: Expected, outside: Sequence[Bar], requested_at: int
    ) -> BoolArray:
        """Which expected bars were received but not accepted; they are requested again."""
        not_accepted = among(expected.starts, np.array([bar.start for bar in outside], np.int64))
        self.later.request_later(
            state, runs(expected.starts, not_accepted, Reason.LATE), requested_at
        )
        return not_accepted

    def notice_foreign(self, state: SeriesState, now: int) -> None:
        """Assess a file again if somebody else has changed it: then it is not owned any more.

        NotUnderstood: nothing may be written to it.
        """
        if state.store.key(state.series) != state.key:
            self._assessor.assess(state, now)
        state.check_understood()

    def _report_invalid(
        self,
        state: SeriesState,
        request: BarsRequest,
        invalid: Sequence[int],
        outside: Sequence[int],
        odd: Sequence[int],
    ) -> None:
        """Report the bars that are not stored, with the request."""
        requested = f"requested {iso(request.start)} to {iso(request.end)}, IB sent"
        for starts, what in (
            (invalid, "invalid bars"),
            (outside, "bars at times without trading"),
            (odd, "bars that begin at other minutes than the rest"),
        ):
            if starts:
                first = f"{len(starts)} {what}, the first at {iso(min(starts))}"
                found = RequestFailed(f"{requested} {first}: left out, and requested again later")
                self._report(str(state.series), found)
