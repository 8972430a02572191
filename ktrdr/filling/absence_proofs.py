"""Absence proofs: which missing bars an answer proves absent, as `evidence` weighs it."""

from __future__ import annotations

import numpy as np

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.sessions import KnownSessions
from ktrdr.completeness.evidence import Answered, Density, flanked_now, weigh
from ktrdr.completeness.gaps import Gap, Reason, among, runs
from ktrdr.filling.unscheduled_bars import UnscheduledBars
from ktrdr.ledger.absences import AbsenceRecords
from ktrdr.ledger.requests import RequestRecords
from ktrdr.market.bars import Answer
from ktrdr.market.sessions import BoolArray, Expected, Int64Array, Schedule
from ktrdr.market.timeframes import DAY_S, HOUR_S, Timeframe

_ABSENCE_SETTLE_S = 600
"""A bar may arrive late: it does not count as absent sooner than this after its end."""
_DAILY_ABSENCE_SETTLE_S = 6 * HOUR_S
"""The same for daily bars, after the end of the UTC day by which they are dated."""
_BEHIND_S = 3600
"""The same for bars after the last one received: IB may be late with all of them."""
_NEAR_S, _FAR_S = 40 * DAY_S, 400 * DAY_S
"""How far from a gap to search for a bar to use as a control: the second if the first has none."""


class AbsenceProofs:
    """Proves absences, and records them in the ledger of one store. For one thread."""

    def __init__(
        self,
        absences: AbsenceRecords,
        requests: RequestRecords,
        sessions: KnownSessions,
        contracts: Contracts,
        unscheduled: UnscheduledBars,
    ) -> None:
        self._absences = absences
        self._requests = requests
        self._sessions = sessions
        self._contracts = contracts
        self._unscheduled = unscheduled

    def weigh(
        self,
        state: SeriesState,
        schedule: Schedule,
        expected: Expected,
        requested: BoolArray,
        answer: Answer,
        new: BoolArray,
        requested_at: int,
        soon: int,
    ) -> tuple[Gap, ...]:
        """Record which of the expected bars are missing from an answer, and which count as absent.

        `new`: the bars that the answer added. Bars that may merely be late are requested again at
        `soon`. Returns the gaps that only lack a control to count as absent.
        """
        name, (starts, days) = state.absence_key, expected
        if not requested.any() or self._proves_nothing(state, starts[requested]):
            return ()
        # a bar whose row lacks a value may have been received, and was not stored
        present = among(starts, state.store.contents(state.series, int(starts[0])).row_starts)
        verified = among(starts, self._absences.absent(name, starts, requested_at))
        missing = requested & ~present & ~verified
        received = [bar.start for bar in (*answer.bars, *answer.neighbours)]
        after = starts > max(received, default=-(2**62))
        young = missing & _is_young(starts, after, state.series.timeframe, requested_at)
        again = missing & ~young & among(starts, self._absences.once_absent(name, starts))
        before, before_again_at = self._absences.unproven(name, starts)
        hull = Gap(int(starts[requested][0]), int(starts[requested][-1]), 0)
        judgement = weigh(
            starts,
            days,
            ~present & ~verified & ~young & ~again,
            Answered(
                requested,
                (min(received), max(received)) if received else None,
                requested_at,
                bool(new.any()),
                self._requests.last_bars_at(state.series, hull, _NEAR_S),
            ),
            before,
            Density(int((present & ~requested).sum()), int((verified & ~requested).sum())),
            agreed=np.isin(days, schedule.denied)
            | self._unscheduled.received_once(state, schedule, starts),
        )
        absent = judgement.absent | again
        self._unscheduled.settle(state, starts[absent | present])
        self._absences.record_absent(name, runs(starts, absent, Reason.NO_TRADES), requested_at)
        self._absences.record_late(name, runs(starts, young, Reason.LATE), requested_at, soon)
        is_flanked = flanked_now(~present & ~verified & ~absent, requested, new)
        soonest = np.minimum(before_again_at, requested_at)
        again_at = np.where(is_flanked, soonest, before_again_at)
        again_at = np.where(judgement.still_missing, judgement.again_at, again_at)
        self._absences.keep_unproven(name, starts, judgement.unproven, again_at)
        return tuple(runs(starts, judgement.wants_control, Reason.UNPROVEN))

    def _proves_nothing(self, state: SeriesState, requested: Int64Array) -> bool:
        """All requested bars are stored, and nothing is on record that this could settle."""
        is_open = self._contracts.unscheduled(state) or self._absences.has_unproven(
            state.absence_key
        )
        if is_open:
            return False
        span = (int(requested[0]), int(requested[-1]) + 1)
        return bool(among(requested, state.store.rows(state.series, *span).starts).all())

    def mark_absent(self, state: SeriesState, gaps: tuple[Gap, ...], requested_at: int) -> None:
        """Record these gaps as absent, since a control was answered."""
        self._absences.record_absent(state.absence_key, gaps, requested_at)

    def nearest_known(self, state: SeriesState, gap: Gap, requested_at: int) -> int | None:
        """The nearest stored bar to a gap that IB should have as well; None: none is near.

        Only expected bars count: foreign rows may be at times without trading.
        """
        schedule = self._sessions.known_schedule(state.instrument)
        if schedule is None:
            return None
        for reach_s in (_NEAR_S, _FAR_S):
            around = (gap.first - reach_s, gap.last + reach_s)
            expected = self._contracts.expected(state, schedule, *around, requested_at).starts
            near = np.intersect1d(state.store.rows(state.series, *around).starts, expected)
            if len(near):
                return int(near[np.argmin(np.minimum(abs(near - gap.first), abs(near - gap.last)))])
        return None


def _is_young(due: Int64Array, after: BoolArray, timeframe: Timeframe, now: int) -> BoolArray:
    """Which bars ended so recently that they may merely be late."""
    if timeframe.is_daily:
        return due + timeframe.length_s + _DAILY_ABSENCE_SETTLE_S > now
    settle_s = np.where(after, _BEHIND_S, _ABSENCE_SETTLE_S)
    young: BoolArray = due + timeframe.length_s + settle_s > now
    return young
