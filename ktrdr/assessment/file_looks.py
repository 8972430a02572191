"""Looks at files with rows of others, before anything is written to them. Writes nothing."""

from __future__ import annotations

from typing import NamedTuple

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.sessions import KnownSessions
from ktrdr.completeness.file_fit import ROW_NUMBERS, Hours, Misfit, misfit, on_weekends, other_clock
from ktrdr.errors import NotUnderstood
from ktrdr.market.instruments import Instrument, Series
from ktrdr.market.sessions import Int64Array, Schedule
from ktrdr.market.timeframes import DAY_S
from ktrdr.store.columns import has_row_numbers
from ktrdr.store.file_key import FileKey
from ktrdr.store.interface import FileContents
from ktrdr.store.time_spelling import offset_of

_ROWS = 20_000
"""So many of the last rows are looked at."""
_ENOUGH_ROWS = 200
_BACK_S = (20 * DAY_S, 100 * DAY_S, 500 * DAY_S, 2**40)
"""So far behind the last row, until there are enough."""


class _Basis(NamedTuple):
    """What a verdict depends on."""

    key: FileKey
    instrument: Instrument
    schedule: Schedule
    alignment: frozenset[int]


class FileLooks:
    """The verdicts on the files of one store since the start. For one thread."""

    def __init__(self, sessions: KnownSessions, contracts: Contracts) -> None:
        self._sessions = sessions
        self._contracts = contracts
        self._verdicts: dict[Series, tuple[_Basis, Misfit | None]] = {}

    def look(self, state: SeriesState, contents: FileContents, now: int) -> NotUnderstood | None:
        """Look at a file that others have changed, by the sessions of its contract.

        The error, if IB's bars do not belong between its rows; otherwise it has that no more. It
        may have been the sessions that were wrong: the series is to be looked at again once they
        were requested anew.
        """
        schedule = self._sessions.known_schedule(state.instrument)
        if state.is_owned or schedule is None:
            state.understood()
            return None
        alignment = self._contracts.alignment(state)
        basis = _Basis(contents.key, state.instrument, schedule, alignment)
        why = self._verdict(state, contents, basis, now)
        if why is None or not why.is_sure:
            state.understood()
            return None
        message = f"{state.series.file_name} is not understood: {why.what}"
        return NotUnderstood(message, hint=f"nothing is written to it; {why.advice}")

    def _verdict(
        self, state: SeriesState, contents: FileContents, basis: _Basis, now: int
    ) -> Misfit | None:
        """The known one, if nobody but ktrdr has changed the file since and nothing else has."""
        known = self._verdicts.get(state.series)
        if known is not None:
            keys = state.store.last_write(state.series)
            if keys is not None and keys[0] == known[0].key:
                known = known[0]._replace(key=keys[1]), known[1]
            if known[0] == basis:
                self._verdicts[state.series] = known
                return known[1]
        if _has_row_numbers(state, contents):
            self._verdicts[state.series] = basis, ROW_NUMBERS
            return ROW_NUMBERS
        times = _times(state, contents)
        clocks = _clocks(state, times)
        hours = Hours(
            state.series.timeframe,
            basis.schedule,
            basis.alignment,
            now,
            has_zone=bool(state.instrument.zone) or clocks is not None,
            has_starts=bool(state.instrument.stamp),
            has_extended_hours=state.instrument.extended_hours,
        )
        why = misfit(times, hours)
        if not state.instrument.zone and clocks is not None and not (why and why.is_sure):
            why = other_clock(times, clocks, hours) or on_weekends(times, hours) or why
        self._verdicts[state.series] = basis, why
        return why


def _times(state: SeriesState, contents: FileContents) -> Int64Array:
    """The starts of its last rows: of the days that are kept complete, or of more if few."""
    times = contents.starts
    for back_s in _BACK_S:
        is_all = bool(len(times)) and times[0] == contents.first
        if len(times) >= _ENOUGH_ROWS or contents.last is None or is_all:
            break
        times = state.store.contents(state.series, max(contents.last - back_s, 0)).starts
    return times[-_ROWS:]


def _has_row_numbers(state: SeriesState, contents: FileContents) -> bool:
    """Its first column is an index."""
    first = contents.first
    row = None if first is None else state.store.line_of(state.series, first)
    if first is None or row is None:
        return False
    columns = state.store.rows(state.series, first, first + 1).layout.columns
    return has_row_numbers(columns, row[1])


def _clocks(state: SeriesState, times: Int64Array) -> Int64Array | None:
    """What the cells of these rows show, as if that were UTC; None: they say no zone.

    By the offsets of the first and the last one. If these differ, they are a real zone's: then the
    times themselves.
    """
    if not len(times):
        return times
    offsets = {_offset_of(state, time) for time in (int(times[0]), int(times[-1]))}
    if None in offsets:
        return None
    (offset,) = offsets if len(offsets) == 1 else (0,)
    return times + (offset or 0)


def _offset_of(state: SeriesState, time: int) -> int | None:
    rows = state.store.rows(state.series, time, time + 1)
    cells = rows.text.decode(errors="replace").split(",")
    return offset_of(cells[rows.layout.time_place])
