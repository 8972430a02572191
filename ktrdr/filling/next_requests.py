"""The requests that a series needs next: which bars, in how many requests. Sends none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.coverage import Coverage
from ktrdr.completeness.request_plan import RequestLengths, outside, plan
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.timeframes import DAY_S, HOUR_S, Timeframe

_COMPARED_S = HOUR_S
"""How long after a comparison requests that include no stored bars may be sent."""
_TOUCH_S = 4 * DAY_S
"""Requests nearer than this to stored bars return some of them, even over a long weekend."""


def next_requests(
    state: SeriesState,
    coverage: Coverage,
    lengths: RequestLengths,
    in_flight: Sequence[tuple[int, int]],
    now: int,
) -> list[BarsRequest]:
    """The requests for the open gaps of a series that are not in flight.

    After a failure only one gap is requested, a different one each time: a gap that always fails
    must not hold up the others, and a series without answers needs no more than one slot.
    """
    timeframe, failures = state.series.timeframe, state.error_state.failures
    gaps = outside(coverage.open_gaps, in_flight, timeframe.length_s)
    if failures and gaps:
        gaps = [gaps[-1 - (failures - 1) % len(gaps)]]
    wanted = plan(gaps, state.instrument, timeframe, lengths)
    if not now - _COMPARED_S <= state.compared_at <= now:
        wanted = _touching(state, wanted) or ([] if in_flight else wanted)
    return wanted[:1] if failures else wanted


def whole_request(
    request: BarsRequest, state: SeriesState, assessor: Assessor, now: int
) -> BarsRequest:
    """The request, and a session before and after it while it is unknown which bars these have.

    So it is with four-hour bars, until some have shown at what hours they begin.
    """
    if request.timeframe is not Timeframe.H4 or assessor.contracts.alignment(state):
        return request
    kept_from = min(assessor.fill_from(state, now), request.start)
    start = max(request.start - DAY_S, kept_from)
    return replace(request, start=start, end=min(request.end + DAY_S, max(request.end, now)))


def _touching(state: SeriesState, wanted: list[BarsRequest]) -> list[BarsRequest]:
    """The requests whose answers will include stored bars, so that these are compared first.

    Without them bars would be written even if IB reports all of them in another unit by now.
    """
    if state.first is None or len(wanted) < 2:
        return wanted
    oldest = min(request.start for request in wanted)
    there = state.store.contents(state.series, oldest - _TOUCH_S).starts
    intervals = [(request.start - _TOUCH_S, request.end + _TOUCH_S) for request in wanted]
    counts = [end - begin for begin, end in np.searchsorted(there, intervals).tolist()]
    return [request for request, count in zip(wanted, counts, strict=True) if count]
