"""What IB's answers show of where the bars of a series begin, and what of them goes by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.sessions import ContractSessions
from ktrdr.completeness.grids import (
    Grid,
    GridFinding,
    after,
    find_grid,
    has_grid,
    is_believed,
    shown,
)
from ktrdr.errors import KtrdrError, RequestFailed
from ktrdr.ledger.absences import AbsenceRecords
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.sessions import Int64Array, Schedule, learnt_alignment
from ktrdr.market.timeframes import Timeframe

_OTHER_GRID = {
    (False, False, True): "asked for again, and stored when that is told again",
    (True, False, True): "told again, so that they are expected there from now on",
    (False, True, True): "not stored unless that is told for more than a day",
    (True, True, True): "told for more than a day, so that the series is pulled again",
    (False, True, False): "not stored, since bars are there that begin elsewhere and are not ours",
}
"""What comes of bars that begin at other minutes: learnt, stored ones against it, can be mended."""

Report = Callable[[str, KtrdrError], None]
"""Tells of a trouble with one thing, such as a series."""


@dataclass(frozen=True)
class Gridded:
    """An answer without what begins off the grid."""

    answer: Answer
    odd: tuple[Bar, ...] = ()
    """What begins off it, and follows no other grid."""
    is_doubtful: bool = False
    """Something was left out: nothing that the answer lacks is believed."""
    again_s: int | None = None
    """When that is asked for again, where the answer follows another grid."""
    is_moved: bool = False
    """That is believed now, against bars that are stored."""


class GridFindings:
    """Learnt into the ledger of one store. For one thread."""

    def __init__(
        self,
        absences: AbsenceRecords,
        sessions: ContractSessions,
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
        """The answer by the grid on which bars are expected, which it may show to be another."""
        if not has_grid(state.series.timeframe):
            return Gridded(answer)
        received = np.array(
            sorted(bar.start for bar in (*answer.bars, *answer.neighbours)), np.int64
        )
        before = self._contracts.grid(state)
        finding = find_grid(received, schedule, state.series.timeframe, before.alignment)
        if is_sure and self._heed_grid(state, schedule, before, finding, requested_at):
            return Gridded(answer, is_doubtful=True, is_moved=True)
        return self._without_odd(state, schedule, answer, received)

    def comparable(self, state: SeriesState, answer: Answer) -> list[Bar]:
        """The bars of an answer that are what they are called, by where the series' bars begin."""
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
        """The answer without what begins off the accepted grid; `received`: all its starts."""
        grid = self._contracts.grid(state)
        finding = find_grid(received, schedule, state.series.timeframe, grid.alignment)
        if finding.minute is not None:
            nothing = answer._replace(bars=[], neighbours=())
            return Gridded(nothing, is_doubtful=True, again_s=grid.again_s)
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
            is_doubtful=bool(unlikely),
        )

    def _heed_grid(
        self,
        state: SeriesState,
        schedule: Schedule,
        before: Grid,
        finding: GridFinding,
        requested_at: int,
    ) -> bool:
        """Remember what one more answer says of where bars begin.

        True: it is believed from now on, against bars that are stored.
        """
        grid, is_against = after(before, finding, requested_at), False
        if finding.minute is not None:
            grid, is_against = self._weigh_grid(state, schedule, grid)
        elif grid != before:  # what it had in the place of others is denied
            self._absences.forget_late(state.absence)
        self._contracts.keep_grid(state, grid)
        return is_against and grid.minute != before.minute

    def _weigh_grid(self, state: SeriesState, schedule: Schedule, grid: Grid) -> tuple[Grid, bool]:
        """The grid that is believed after another one was told, and told of as a finding.

        And whether bars are stored that the other one is not the grid of.
        """
        assert grid.seen is not None
        series, other = state.series, Grid(grid.seen)
        rows = state.store.contents(series, min(state.first or 0, 0)).starts
        is_against = bool(find_grid(rows, schedule, series.timeframe, other.alignment).odd.any())
        is_mendable = state.is_owned or not is_against
        is_learnt = is_mendable and is_believed(grid, is_against=is_against)
        expected, seen = (shown(schedule, series.timeframe, one.alignment) for one in (grid, other))
        found = f"IB's bars begin at other minutes than expected ({seen}, expected {expected})"
        hint = ""
        if is_learnt:
            self._absences.forget_missing(state.absence)
        if not is_mendable:
            hint = f"to have them, move {series.file_name} away and create it with its header line"
        what = _OTHER_GRID[is_learnt, is_against, is_mendable]
        self._report(str(series), RequestFailed(f"{found}: {what}", hint=hint))
        return other if is_learnt else grid, is_against

    def learn_alignment(self, state: SeriesState, schedule: Schedule, answer: Answer) -> None:
        """Remember where four-hour bars begin, as an answer shows."""
        if state.series.timeframe is Timeframe.H4:
            seen = learnt_alignment(schedule, [bar.start for bar in answer.bars])
            self._contracts.learn_alignment(state.instrument, seen)
