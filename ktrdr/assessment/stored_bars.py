"""Stored bars of a series, by start, by number or by session. Writes none."""

from __future__ import annotations

from collections.abc import Collection

from ktrdr.assessment.series_state import SeriesState
from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import Session
from ktrdr.store.file_advice import missing_value_hint
from ktrdr.store.interface import FileContents


def stored(state: SeriesState, starts: Collection[int]) -> list[Bar]:
    """The stored bars of these starts. MalformedFile names the line."""
    if not starts:
        return []
    try:
        return state.store.rows(state.series, min(starts), max(starts) + 1).bars(starts)
    except MalformedFile:
        state.store.verify(state.series)  # names the line, which reading a part of a file cannot
        raise


def incomplete_rows(state: SeriesState, contents: FileContents) -> MalformedFile | None:
    """Which rows lack a value, for a person; None: none does. FileNotFoundError, MalformedFile.

    The message stays the same while rows are added before them, unlike the line in the hint.
    """
    if not len(contents.incomplete):
        return None
    series, count = state.series, len(contents.incomplete)
    found = state.store.line_of(series, int(contents.incomplete[0]))
    if found is None:
        return None
    number, text = found
    what = "a row lacks a value" if count == 1 else f"{count} rows lack a value, the first one"
    message = f"{series.file_name}: {what}: {text[:200]!r}"
    return MalformedFile(message, hint=missing_value_hint(series.file_name, number))


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
