"""What comes of an answer for bars: what is believed of it is written, and the rest remembered."""

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
    """What came of one answer."""

    added: int
    """New bars in the file."""
    wants_control: tuple[Gap, ...] = ()
    """What would be believed to be absent if anything near by had been answered meanwhile."""
    revision: Revision | None = None
    """Bars that are told otherwise than they are stored."""
    is_withheld: bool = False
    """It is, or may be, in another unit than what is stored.

    Nothing of it was written, and nothing that it lacks was believed.
    """
    is_moved: bool = False
    """Bars begin elsewhere than those that are stored: nothing was written."""


@dataclass(frozen=True)
class _Sifted:
    """An answer, as far as it is believed."""

    answer: Answer
    told: int
    """How many bars it had, believed or not."""
    outside: tuple[Bar, ...] = ()
    """At times or minutes at which none is expected, and not believed yet."""
    is_damaged: bool = False
    """It proves nothing of what it lacks."""
    again_s: int | None = None
    """As that of `Gridded`."""
    is_moved: bool = False
    """As that of `Gridded`: nothing is to be written."""


class Ingest:
    """Into file and ledger of the series of one store. For one thread."""

    def __init__(self, assessor: Assessor, report: Report, late_s: float) -> None:
        """`late_s`: a bar that was late is asked for again after so long."""
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
        self.comparison = Comparison(assessor.ownership)

    def take(
        self,
        watched: SeriesState,
        request: BarsRequest,
        answer: Answer,
        asked_at: int,
        *,
        is_sure: bool = True,
    ) -> IngestResult:
        """Write the finished bars of an answer, and remember what it says IB has not.

        Neither where all is told, or may be, in another unit or of another contract. Unless it
        `is_sure` what time it is, nothing of what it lacks is believed nor counted.
        FileNotFoundError: the file is gone. StoreUnwritable, MalformedFile: nothing was written.
        """
        series, span = watched.series, (request.start, request.end)
        if self._sessions.known_schedule(watched.instrument) is None:
            raise RequestFailed(f"{series}: its sessions are unknown, so its bars cannot be judged")
        self.notice_foreign(watched, asked_at)
        sifted = self._sift(watched, request, answer, asked_at, is_sure=is_sure)
        if sifted.is_moved:
            self._requests.refused(series, *span, asked_at, "other_grid", None)
            return IngestResult(0, is_moved=True)
        since = self._assessor.fill_from(watched, asked_at)
        schedule = self._sessions.known_schedule(watched.instrument)
        assert schedule is not None
        expected = self._assessor.contracts.expected(watched, schedule, since, asked_at, asked_at)
        asked = (expected.starts >= span[0]) & (expected.starts < span[1])
        # Of an answer on another grid nothing is compared: its bars are not those of these names.
        is_odd, answer = sifted.again_s is not None, sifted.answer
        revision = None if is_odd else self.comparison.compare(watched, answer, span)
        if revision is not None and wants_more(watched, revision):
            self._requests.answered(series, *span, asked_at, sifted.told)
            return IngestResult(0, revision=revision, is_withheld=True)
        self.later.was_written(watched)
        there = among(expected.starts, watched.store.look(series, since).starts)
        done = finished(answer.bars, expected.starts[asked], series.timeframe, asked_at)
        added = watched.store.add(series, done)
        if added:
            self._assessor.ownership.note_written(watched)
        if is_odd:
            self._requests.refused(series, *span, asked_at, "other_grid", None)
        else:
            self._requests.answered(series, *span, asked_at, sifted.told)
        new = among(expected.starts, np.array([bar.start for bar in done], np.int64)) & ~there
        unproven = self._see_to_lacking(
            watched, sifted, expected, asked, new, asked_at, is_sure=is_sure
        )
        return IngestResult(added, unproven, revision)

    def _see_to_lacking(
        self,
        watched: SeriesState,
        sifted: _Sifted,
        expected: Expected,
        asked: BoolArray,
        new: BoolArray,
        asked_at: int,
        *,
        is_sure: bool,
    ) -> tuple[Gap, ...]:
        """Remember what an answer has not of the expected bars that were `asked` for.

        `new`: those that it has brought. Comes back: what a control alone would prove absent.
        """
        answer, due = sifted.answer, Expected(expected.starts[asked], expected.days[asked])
        if sifted.is_damaged:
            self.later.doubt_all(watched, answer, due, asked_at, sifted.again_s)
            return ()
        if not is_sure:
            self.later.ask_soon(watched, answer, due, asked_at)
            return ()
        schedule = self._sessions.known_schedule(watched.instrument)
        assert schedule is not None
        asked = asked & ~self._ask_for_outside(watched, expected, sifted.outside, asked_at)
        soon = asked_at + self.later.late_for(watched, answer, due, schedule, asked_at)
        return self.absences.weigh(watched, schedule, expected, asked, answer, new, asked_at, soon)

    def _sift(
        self,
        watched: SeriesState,
        request: BarsRequest,
        answer: Answer,
        asked_at: int,
        *,
        is_sure: bool,
    ) -> _Sifted:
        """What of an answer may be written; the rest is named, and remembered.

        Sessions and minutes that bars have shown are learnt.
        """
        schedule = self._sessions.known_schedule(watched.instrument)
        assert schedule is not None
        answer, outside = without_closed(answer, schedule, request.timeframe)
        gridded = self.grids.by_grid(watched, schedule, answer, asked_at, is_sure=is_sure)
        answer, told = gridded.answer, len(gridded.answer.bars) + len(outside)
        if gridded.is_moved:
            return _Sifted(answer, told, is_moved=True)
        is_damaged = bool(answer.unsound) or gridded.is_doubtful
        outside += gridded.odd
        if outside:
            believed, outside, is_moved = self._unscheduled.sight(
                watched, request, answer, outside, asked_at, is_sure=is_sure
            )
            is_damaged |= is_moved
            answer = answer._replace(bars=sorted([*answer.bars, *believed]))
            schedule = self._sessions.known_schedule(watched.instrument) or schedule
        self._report_unsound(
            watched,
            request,
            answer.unsound,
            [bar.start for bar in outside if bar not in gridded.odd],
            [bar.start for bar in outside if bar in gridded.odd],
        )
        self.grids.learn_alignment(watched, schedule, answer)
        return _Sifted(answer, told, tuple(outside), is_damaged, gridded.again_s)

    def _ask_for_outside(
        self, watched: SeriesState, expected: Expected, outside: Sequence[Bar], asked_at: int
    ) -> BoolArray:
        """Which of the expected bars were told and are not believed; they are asked for again."""
        sighted = among(expected.starts, np.array([bar.start for bar in outside], np.int64))
        self.later.ask_later(watched, runs(expected.starts, sighted, Reason.LATE), asked_at)
        return sighted

    def notice_foreign(self, watched: SeriesState, now: int) -> None:
        """Look at a file that somebody has changed since it was looked at: it is ours no more."""
        if watched.store.key(watched.series) != watched.key:
            self._assessor.assess(watched, now)

    def _report_unsound(
        self,
        watched: SeriesState,
        request: BarsRequest,
        unsound: Sequence[int],
        outside: Sequence[int],
        odd: Sequence[int],
    ) -> None:
        """Name what was not stored, and what was asked."""
        asked = f"asked for {iso(request.start)} to {iso(request.end)}, IB sent"
        for starts, why in (
            (unsound, "that cannot be"),
            (outside, "of times without trading"),
            (odd, "that begin at other minutes than its others"),
        ):
            if starts:
                first = f"{len(starts)} bars {why}, the first at {iso(min(starts))}"
                found = RequestFailed(f"{asked} {first}: left out, and asked for again later")
                self._report(str(watched.series), found)
