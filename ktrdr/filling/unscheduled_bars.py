"""Unscheduled bars: received at unexpected times, and recorded until accepted or refuted."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.sessions import KnownSessions
from ktrdr.completeness.gaps import among
from ktrdr.completeness.grids import find_grid
from ktrdr.completeness.unscheduled import are_shifted, screen, sessions_of
from ktrdr.ledger.absences import AbsenceRecords
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.sessions import BoolArray, Int64Array, Schedule, closed
from ktrdr.market.timeframes import Timeframe

log = logging.getLogger("gap-filler")


class UnscheduledBars:
    """Those of the series of one store. For one thread."""

    def __init__(
        self, absences: AbsenceRecords, sessions: KnownSessions, contracts: Contracts
    ) -> None:
        self._absences = absences
        self._sessions = sessions
        self._contracts = contracts

    def screen(
        self,
        state: SeriesState,
        request: BarsRequest,
        answer: Answer,
        outside: Sequence[Bar],
        requested_at: int,
        *,
        is_sure: bool,
    ) -> tuple[list[Bar], list[Bar], bool]:
        """Of the bars `outside` expected times or minutes, those accepted, and those not yet.

        And whether they may be expected bars that were shifted.
        """
        schedule = self._sessions.known_schedule(state.instrument)
        assert schedule is not None
        known = self._contracts.unscheduled(state)
        received = {bar.start for bar in outside}
        due = self._contracts.expected(
            state, schedule, request.start, request.end, requested_at
        ).starts
        there = [*(bar.start for bar in answer.bars), *received, *known]
        absent = self._absences.absent(state.absence_key, due, requested_at)
        missing = np.setdiff1d(np.setdiff1d(due, absent), np.array(there, np.int64))
        screened = screen(known, outside, requested_at, len(missing), is_sure=is_sure)
        others = {start: one for start, one in known.items() if start not in received}
        self._contracts.keep_unscheduled(state, others | screened.unverified)
        timeframe = state.series.timeframe
        starts = np.array([bar.start for bar in screened.accepted], np.int64)
        starts = starts[closed(starts, schedule, timeframe)]
        sessions = sessions_of(starts.tolist(), schedule, timeframe)
        if sessions:
            self._sessions.add_sessions(state.instrument, sessions)
            log.info("%s: traded in %d sessions missing from SCHEDULE", state.series, len(sessions))
        if closed(np.array([*screened.unverified], np.int64), schedule, timeframe).any():
            self._sessions.request_soon(state.instrument, requested_at)
        is_shifted = bool(screened.unverified) and are_shifted(len(outside), len(missing))
        return screened.accepted, [one.bar for one in screened.unverified.values()], is_shifted

    def received_once(
        self, state: SeriesState, schedule: Schedule, starts: Int64Array
    ) -> BoolArray:
        """Which of these bars were received at unexpected times or minutes, in one answer only."""
        known = self._contracts.unscheduled(state).items()
        once = np.array(sorted(start for start, one in known if one.times <= 1), np.int64)
        timeframe = state.series.timeframe
        odd = find_grid(once, schedule, timeframe, self._contracts.alignment(state)).odd
        return among(starts, once[odd | closed(once, schedule, timeframe)])

    def settle(self, state: SeriesState, starts: Int64Array) -> None:
        """Drop the records of these bars: it is known by now whether they exist."""
        known = self._contracts.unscheduled(state)
        if known:
            settled = set(starts[np.isin(starts, list(known))].tolist())
            left = {start: one for start, one in known.items() if start not in settled}
            self._contracts.keep_unscheduled(state, left)


def without_closed(
    answer: Answer, schedule: Schedule, timeframe: Timeframe
) -> tuple[Answer, list[Bar]]:
    """The answer without bars at times without trading, and those bars."""
    wrong = closed(np.array([bar.start for bar in answer.bars], np.int64), schedule, timeframe)
    if not wrong.any():
        return answer, []
    kept = [bar for bar, is_wrong in zip(answer.bars, wrong.tolist(), strict=True) if not is_wrong]
    outside = [bar for bar, is_wrong in zip(answer.bars, wrong.tolist(), strict=True) if is_wrong]
    return answer._replace(bars=kept), outside
