"""Later requests: when to request bars again that were missing, or could not be written."""

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
"""How soon a late bar is requested again at the earliest."""
_WITHHELD_MAX_S, _DOUBLINGS_MAX = DAY_S, 12
"""The longest pause before withheld bars are requested again."""
_INVALID_S, _INVALID_MAX_S = 3600, 30 * DAY_S
"""How soon bars missing from a damaged answer are requested again: doubled each time."""


class LaterRequests:
    """Those of the series of one store. For one thread."""

    def __init__(self, absences: AbsenceRecords, late_s: float) -> None:
        """`late_s`: how long until a late bar is requested again."""
        self._absences = absences
        self._late_s = max(_LATE_S, int(late_s))
        self._misses: dict[tuple[str, int], int] = {}
        """Absence key and first bar → how often it was missing from damaged answers."""
        self._put_off: dict[str, dict[int, int]] = {}
        """Absence key → first withheld bar → how often it was put off in a row."""

    def put_off(self, state: SeriesState, gaps: Sequence[Gap], now: int) -> bool:
        """Request withheld bars again: at once, or later if repeated. True: later.

        The pause is doubled each time. It is not recorded during a rebuild, which would then seem
        complete without these bars.
        """
        name, first = state.absence_key, gaps[0].first if gaps else 0
        counts = self._put_off.setdefault(name, {})
        times = counts[first] = counts.get(first, 0) + 1
        if times > 1 and state.rebuilds_from is None:
            later_s = self._late_s * 2 ** min(times - 2, _DOUBLINGS_MAX)
            self._absences.record_late(name, gaps, now, now + min(later_s, _WITHHELD_MAX_S))
        return times > 1

    def was_written(self, state: SeriesState) -> None:
        """Note that nothing of the series is withheld now: its pauses begin again."""
        self._put_off.pop(state.absence_key, None)

    def request_soon(
        self, state: SeriesState, answer: Answer, due: Expected, requested_at: int
    ) -> None:
        """Request the due bars missing from an answer again, after the usual pause."""
        late = runs(due.starts, _missing(due, answer), Reason.LATE)
        self._absences.record_late(
            state.absence_key, late, requested_at, requested_at + self._late_s
        )

    def request_unproven(
        self,
        state: SeriesState,
        answer: Answer,
        due: Expected,
        requested_at: int,
        again_s: int | None,
    ) -> None:
        """Request the bars missing from a damaged answer again: it does not prove them absent."""
        missing = runs(due.starts, _missing(due, answer), Reason.LATE)
        if again_s is None:
            self.request_later(state, missing, requested_at)
        else:
            self._absences.record_late(
                state.absence_key, missing, requested_at, requested_at + again_s
            )

    def request_later(self, state: SeriesState, gaps: list[Gap], requested_at: int) -> None:
        """Request these gaps again after a pause that doubles each time."""
        name = state.absence_key
        if not gaps:
            return
        times = self._misses[name, gaps[0].first] = self._misses.get((name, gaps[0].first), 0) + 1
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
        """How long to wait for late bars: half as long as the newest of them has been late."""
        late = due.starts[_missing(due, answer)]
        if not len(late):
            return self._late_s
        end = int(late[-1]) + state.series.timeframe.length_s
        if state.series.timeframe.is_daily:
            end = max(s.close for s in schedule.sessions if s.day == late[-1])
        return max(self._late_s, (requested_at - end) // 2)


def _missing(due: Expected, answer: Answer) -> BoolArray:
    """Which of the due bars are missing from an answer."""
    return ~np.isin(due.starts, np.array([bar.start for bar in answer.bars], dtype=np.int64))
