"""When bars are asked for again that an answer lacked, or that nothing was written of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap, Reason, runs
from ktrdr.ledger.absences import AbsenceRecords
from ktrdr.market.bars import Answer
from ktrdr.market.sessions import BoolArray, Expected, Schedule
from ktrdr.market.timeframes import DAY_S

_LATE_S = 60
"""When a bar that was late is asked for again at the earliest."""
_WITHHELD_MAX_S, _DOUBLINGS_MAX = DAY_S, 12
"""So long, at most, is not asked for what came in answers that nothing was written of."""
_INVALID_S, _INVALID_MAX_S = 3600, 30 * DAY_S
"""When what a damaged answer lacks is asked for again: each time after twice as long."""


class LaterRequests:
    """Of the series of one store. For one thread."""

    def __init__(self, absences: AbsenceRecords, late_s: float) -> None:
        """`late_s`: a bar that was late is asked for again after so long."""
        self._absences = absences
        self._late_s = max(_LATE_S, int(late_s))
        self._doubted: dict[tuple[str, int], int] = {}
        """How often an answer with bars that cannot be has lacked the same."""
        self._put_off: dict[str, dict[int, int]] = {}
        """Absence → first bar that nothing was written of → how often it was put off, in a row."""

    def put_off(self, state: SeriesState, gaps: Sequence[Gap], now: int) -> bool:
        """Ask for what nothing was written of: at once, and later after a second time in a row.

        Each time after twice as long. True: later. Not recorded while the series is pulled again,
        which would seem whole without it.
        """
        name, first = state.absence, gaps[0].first if gaps else 0
        counts = self._put_off.setdefault(name, {})
        times = counts[first] = counts.get(first, 0) + 1
        if times > 1 and state.rebuilds_from is None:
            later_s = self._late_s * 2 ** min(times - 2, _DOUBLINGS_MAX)
            self._absences.record_late(name, gaps, now, now + min(later_s, _WITHHELD_MAX_S))
        return times > 1

    def was_written(self, state: SeriesState) -> None:
        """Nothing is withheld of the series now: what was put off before counts no more."""
        self._put_off.pop(state.absence, None)

    def request_soon(
        self, state: SeriesState, answer: Answer, due: Expected, requested_at: int
    ) -> None:
        """What an answer lacks of the bars that are due, after the usual while."""
        late = runs(due.starts, _lacking(due, answer), Reason.LATE)
        self._absences.record_late(state.absence, late, requested_at, requested_at + self._late_s)

    def doubt_all(
        self,
        state: SeriesState,
        answer: Answer,
        due: Expected,
        requested_at: int,
        again_s: int | None,
    ) -> None:
        """An answer with bars that cannot be proves nothing of those that it lacks."""
        lacking = runs(due.starts, _lacking(due, answer), Reason.LATE)
        if again_s is None:
            self.request_later(state, lacking, requested_at)
        else:
            self._absences.record_late(state.absence, lacking, requested_at, requested_at + again_s)

    def request_later(self, state: SeriesState, gaps: list[Gap], requested_at: int) -> None:
        """Each time after twice as long."""
        name = state.absence
        if not gaps:
            return
        times = self._doubted[name, gaps[0].first] = self._doubted.get((name, gaps[0].first), 0) + 1
        later = requested_at + min(_INVALID_S * 2 ** (times - 1), _INVALID_MAX_S)
        self._absences.record_late(name, gaps, requested_at, later)

    def late_for(
        self,
        state: SeriesState,
        answer: Answer,
        due: Expected,
        schedule: Schedule,
        requested_at: int,
    ) -> int:
        """How long to wait for what is late: half as long as the newest of it has been so."""
        late = due.starts[_lacking(due, answer)]
        if not len(late):
            return self._late_s
        end = int(late[-1]) + state.series.timeframe.length_s
        if state.series.timeframe.is_daily:
            end = max(s.close for s in schedule.sessions if s.day == late[-1])
        return max(self._late_s, (requested_at - end) // 2)


def _lacking(due: Expected, answer: Answer) -> BoolArray:
    """Which of the due bars an answer has not."""
    return ~np.isin(due.starts, np.array([bar.start for bar in answer.bars], dtype=np.int64))
