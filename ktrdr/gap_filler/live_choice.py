"""Which series are kept new by streams: those that gain most, within the budget. Asks nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ktrdr.assessment.series_state import SeriesState
from ktrdr.market.instruments import Series

_BEFORE_S, _AFTER_S = 300.0, 900.0
"""A stream is opened so long before its market does, and closed so long after it."""
_BARS_MISSING = 5
"""Series that miss more bars are filled first."""


def chosen(
    states: Iterable[SeriesState], kept: Collection[Series], most: int, now: float
) -> list[Series]:
    """At most `most` series, those of the shortest bars first; those `kept` stay among equals."""
    wanted = [one for one in states if _may_be(one, now, is_kept=one.series in kept)]

    def rank(state: SeriesState) -> tuple[int, bool, str]:
        series = state.series
        return series.timeframe.length_s, series not in kept, str(series)

    return [state.series for state in sorted(wanted, key=rank)[:most]]


def _may_be(state: SeriesState, now: float, *, is_kept: bool) -> bool:
    timeframe, due = state.series.timeframe, state.assessment.next_due
    if timeframe.is_daily or not state.instrument.is_live(timeframe) or due is None:
        return False
    if state.is_blocked or state.is_rebuilding or state.coverage is None:
        return False
    if due - now > timeframe.length_s + (_AFTER_S if is_kept else _BEFORE_S):
        return False
    missing = sum(gap.bars for gap in state.coverage.fillable)
    return is_kept or (state.error is None and missing <= _BARS_MISSING)
