"""What a series has stored of some bars: of these starts, the newest, or of a session."""

from __future__ import annotations

from collections.abc import Collection

from ktrdr.assessment.series_state import SeriesState
from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import Session


def stored(watched: SeriesState, starts: Collection[int]) -> list[Bar]:
    """What a series has of the bars of these starts. MalformedFile names the line."""
    if not starts:
        return []
    try:
        return watched.store.rows(watched.series, min(starts), max(starts) + 1).bars(starts)
    except MalformedFile:
        watched.store.verify(watched.series)  # names the line, which a part of a file does not know
        raise


def latest(watched: SeriesState, bars: int, until: int | None = None) -> tuple[int, int] | None:
    """The span of so many stored bars, up to that of `until`, or the newest; None: no bars."""
    if watched.last is None or watched.first is None:
        return None
    length_s = watched.series.timeframe.length_s
    last = watched.last if until is None else min(until, watched.last)
    reach_s = bars * length_s
    while True:
        starts = watched.store.look(watched.series, last - reach_s).starts
        starts = starts[starts <= last]
        if len(starts) >= bars or last - reach_s <= watched.first:
            break
        reach_s *= 4
    return (int(starts[-bars:][0]) if len(starts) else last), last + length_s


def has_bars(watched: SeriesState, session: Session) -> bool:
    """Whether a series has bars of a session."""
    span = (session.open, session.close)
    if watched.series.timeframe.is_daily:
        span = (session.day, session.day + 1)
    try:
        return len(watched.store.rows(watched.series, *span).starts) > 0
    except Exception:  # noqa: BLE001  its own trouble, which is reported where it is looked at
        return False
