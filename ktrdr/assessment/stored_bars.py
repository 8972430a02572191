"""Stored bars of a series, by start, by number or by session. Writes none."""

from __future__ import annotations

from collections.abc import Collection

from ktrdr.assessment.series_state import SeriesState
from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import Session


def stored(state: SeriesState, starts: Collection[int]) -> list[Bar]:
    """The stored bars of these starts. MalformedFile names the line."""
    if not starts:
        return []
    try:
        return state.store.rows(state.series, min(starts), max(starts) + 1).bars(starts)
    except MalformedFile:
        state.store.verify(state.series)  # names the line, which reading a part of a file cannot
        raise


def latest(state: SeriesState, bars: int, until: int | None = None) -> tuple[int, int] | None:
    """The interval of this many stored bars, up to `until`, or the newest; None: no bars."""
    if state.last is None or state.first is None:
        return None
    length_s = state.series.timeframe.length_s
    last = state.last if until is None else min(until, state.last)
    reach_s = bars * length_s
    while True:
        starts = state.store.contents(state.series, last - reach_s).starts
        starts = starts[starts <= last]
        if len(starts) >= bars or last - reach_s <= state.first:
            break
        reach_s *= 4
    return (int(starts[-bars:][0]) if len(starts) else last), last + length_s


def has_bars(state: SeriesState, session: Session) -> bool:
    """Whether a series has bars of a session."""
    span = (session.open, session.close)
    if state.series.timeframe.is_daily:
        span = (session.day, session.day + 1)
    try:
        return len(state.store.rows(state.series, *span).starts) > 0
    except Exception:  # noqa: BLE001  the file's error is reported when it is assessed
        return False
