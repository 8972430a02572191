"""Which series wait for sessions, and for whose: their own, or those of an alike contract.

Requests sessions, and no bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.filling.fetcher import Fetcher
from ktrdr.market.instruments import hours_group


def without_waiting(
    series: Iterable[SeriesState], assessor: Assessor, fetcher: Fetcher
) -> list[SeriesState]:
    """Those of which nothing is in flight, and whose hours are not about to arrive.

    These arrive with the sessions of an alike contract, requested a moment ago.
    """
    busy, coming = fetcher.busy, fetcher.hours_coming
    return [
        state
        for state in series
        if state not in busy
        and not (
            hours_group(state.instrument) in coming
            and not state.error_state.failures
            and assessor.sessions.are_of_another(state.instrument)
        )
    ]


def request_sessions(
    series: Sequence[SeriesState], assessor: Assessor, fetcher: Fetcher, now: int
) -> list[SeriesState]:
    """Request the sessions that these series of one contract want.

    Returns the series whose bars may be requested now: those that want none, and all of them where
    the sessions of an alike contract serve until their own are there.
    """
    wanting = [state for state in series if assessor.wants_schedule(state, now)]
    if not wanting:
        return list(series)
    start = assessor.schedule_from(wanting, now)
    if assessor.have_alike_sessions(wanting, now):
        fetcher.postpone_sessions(tuple(wanting), start)
        return list(series)
    fetcher.request_sessions(tuple(wanting), start, now)
    return [state for state in series if state not in wanting]
