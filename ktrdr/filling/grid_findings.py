"""Grid findings: at which minutes IB's bars begin, and what follows if not as expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.sessions import KnownSessions
from ktrdr.completeness.grids import (
    Grid,
    GridFinding,
    after,
    find_grid,
    has_grid,
    is_accepted,
    shown,
)
from ktrdr.errors import KtrdrError, RequestFailed
from ktrdr.ledger.absences import AbsenceRecords
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.sessions import Int64Array, Schedule, learnt_alignment
from ktrdr.market.timeframes import Timeframe

_OTHER_GRID = {
    (False, False, True): "requested again, and stored if IB returns them again",
    (True, False, True): "returned again, so bars are expected there from now on",
    (False, True, True): "not stored unless IB returns them for more than a day",
    (True, True, True): "returned for more than a day, so the series is rebuilt",
    (False, True, False): "not stored, because foreign bars in the file begin at other minutes",
}
"""What follows from bars at other minutes: (learnt, contradicts stored bars, can be repaired)."""

Report = Callable[[str, KtrdrError], None]
"""Reports a problem with one thing, such as a series."""


@dataclass(frozen=True)
class Gridded:
    """The answer without the bars that begin off the grid."""

    answer: Answer
    odd: tuple[Bar, ...] = ()
    """Bars off the grid that follow no other grid."""
    is_incomplete: bool = False
    """Bars were left out, so nothing missing from the answer counts as absent."""
    again_s: int | None = None
    """When to request this again, if the answer follows another grid."""
    is_shifted: bool = False
    """The other grid is accepted now, contrary to the stored bars."""


class GridFindings:
    """Records them in the ledger of one store. For one thread."""

    def __init__(
        self,
        absences: AbsenceRecords,
        sessions: KnownSessions,
        contracts: Contracts,
        report: Report,
    ) -> None:
        self._absences = absences
        self._sessions = sessions
        self._contracts = contracts
        self._report = report

    def by_grid(
        self,
        state: SeriesState,
        schedule: Schedule,
        answer: Answer,
        requested_at: int,
        *,
        is_sure: bool,
    ) -> Gridded:
        """The bars of an answer on the expected grid, unless it shows that another one is right."""
        if not has_grid(state.series.timeframe):
            return Gridded(answer)
        received = np.array(
            sorted(bar.start for bar in (*answer.bars, *answer.neighbours)), np.int64
        )
        before = self._contracts.grid(state)
        finding = find_grid(received, schedule, state.series.timeframe, before.alignment)
        if is_sure and self._update_grid(state, schedule, before, finding, requested_at):
            return Gridded(answer, is_incomplete=True, is_shifted=True)
        return self._without_odd(state, schedule, answer, received)

    def comparable(self, state: SeriesState, answer: Answer) -> list[Bar]:
        """The bars of an answer that are on the accepted grid of the series."""
        schedule = self._sessions.known_schedule(state.instrument)
        received = sorted((*answer.bars, *answer.neighbours))
        if schedule is None or not received:
            return received
        starts = np.array([bar.start for bar in received], np.int64)
        kept = self._without_odd(state, schedule, answer, starts).answer
        return sorted((*kept.bars, *kept.neighbours))

    def _without_odd(
        self, state: SeriesState, schedule: Schedule, answer: Answer, received: Int64Array
    ) -> Gridded:
        """The answer without bars off the accepted grid; `received`: the starts of all its bars."""
        grid = self._contracts.grid(state)
        finding = find_grid(received, schedule, state.series.timeframe, grid.alignment)
        if finding.minute is not None:
            nothing = answer._replace(bars=[], neighbours=())
            return Gridded(nothing, is_incomplete=True, again_s=grid.again_s)
        if not finding.odd.any():
            return Gridded(answer)
        there = state.store.rows(state.series, int(received[0]), int(received[-1]) + 1).starts
        unlikely = set(received[finding.unlikely(there)].tolist())
        odd = unlikely & set(received[finding.odd].tolist())
        kept = [bar for bar in answer.bars if bar.start not in unlikely]
        neighbours = tuple(bar for bar in answer.neighbours if bar.start not in unlikely)
        return Gridded(
            answer._replace(bars=kept, neighbours=neighbours),
            tuple(bar for bar in answer.bars if bar.start in odd),
            is_incomplete=bool(unlikely),
        )

    def _update_grid(
        self,
        state: SeriesState,
        schedule: Schedule,
        before: Grid,
        finding: GridFinding,
        requested_at: int,
    ) -> bool:
        """Record what one more answer shows about where bars begin.

        True: its grid is accepted from now on, contrary to stored bars.
        """
        grid, is_against = after(before, finding, requested_at), False
        if finding.minute is not None:
            grid, is_against = self._weigh_grid(state, schedule, grid)
        elif grid != before:  # the other grid is contradicted
            self._absences.forget_late(state.absence_key)
        self._contracts.keep_grid(state, grid)
        return is_against and grid.minute != before.minute

    def _weigh_grid(self, state: SeriesState, schedule: Schedule, grid: Grid) -> tuple[Grid, bool]:
        """The accepted grid after another one was received, and whether stored bars contradict it.

        The other one is reported.
        """
        assert grid.seen is not None
        series, other = state.series, Grid(grid.seen)
        rows = state.store.contents(series, min(state.first or 0, 0)).starts
        is_against = bool(find_grid(rows, schedule, series.timeframe, other.alignment).odd.any())
        is_repairable = state.is_owned or not is_against
        is_learnt = is_repairable and is_accepted(grid, is_against=is_against)
        expected, seen = (shown(schedule, series.timeframe, one.alignment) for one in (grid, other))
        found = f"IB's bars begin at other minutes than expected ({seen}, expected {expected})"
        hint = ""
        if is_learnt:
            self._absences.forget_missing(state.absence_key)
        if not is_repairable:
            hint = f"to have them, move {series.file_name} away and create it with its header line"
        consequence = _OTHER_GRID[is_learnt, is_against, is_repairable]
        self._report(str(series), RequestFailed(f"{found}: {consequence}", hint=hint))
        return other if is_learnt else grid, is_against

    def learn_alignment(self, state: SeriesState, schedule: Schedule, answer: Answer) -> None:
        """Record where four-hour bars begin, as an answer shows."""
        if state.series.timeframe is Timeframe.H4:
            seen = learnt_alignment(schedule, [bar.start for bar in answer.bars])
            self._contracts.learn_alignment(state.instrument, seen)
