"""The cost of an outage: the bars that were late because of it, and those still missing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ktrdr.assessment.series_state import SeriesSnapshot
from ktrdr.completeness.gaps import WANTED
from ktrdr.ipc.messages import OutageCost
from ktrdr.market.timeframes import DAY_S

_REACH_S = 4 * DAY_S
"""A bar is due this long after its start at most; a daily bar may span a weekend session."""


def cost_of(series: Iterable[SeriesSnapshot], start: int, end: int) -> OutageCost:
    """The cost of an outage (UTC seconds) for the current series, as far as it is known."""
    late = lost = 0
    for one in series:
        if one.coverage is None:
            continue
        stored, span = (one.first, one.last), (start - _REACH_S, end)
        timeframe = one.series.timeframe
        before = one.basis.expected(timeframe, stored, span, start).starts
        due = np.setdiff1d(one.basis.expected(timeframe, stored, span, end).starts, before)
        gaps = one.coverage.gaps.of(*WANTED)
        inside = np.searchsorted(gaps.first, due, side="right") - np.searchsorted(gaps.last, due)
        late, lost = late + len(due), lost + int((inside > 0).sum())
    return OutageCost(late, lost)
