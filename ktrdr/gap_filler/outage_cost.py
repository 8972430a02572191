"""The cost of a time without data: bars that it made late, and those still missing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ktrdr.assessment.series_state import SeriesSnapshot
from ktrdr.completeness.gaps import WANTED
from ktrdr.ipc.messages import OutageCost
from ktrdr.market.timeframes import DAY_S

_REACH_S = 4 * DAY_S
"""How long after its start a bar is due at most; a daily one may span a weekend's session."""


def cost_of(series: Iterable[SeriesSnapshot], start: int, end: int) -> OutageCost:
    """The cost of a time without data (UTC seconds), over the current series, as far as known."""
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
