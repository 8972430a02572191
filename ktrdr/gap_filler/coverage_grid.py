"""The coverage of all series as a grid, a character a trading day. Rows are kept until they change.

For any thread.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from ktrdr.assessment.series_state import SeriesSnapshot
from ktrdr.completeness.day_states import (
    CHARACTER,
    DayRow,
    DayState,
    row_of,
    row_without_coverage,
    state_of_open,
)
from ktrdr.errors import InvalidRequest
from ktrdr.gap_filler.report import StoreSnapshot
from ktrdr.ipc.query import time_from_text
from ktrdr.ipc.series_messages import CoverageGrid, GridRow
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import utc_midnight
from ktrdr.market.timeframes import DAY_S

DEFAULT_DAYS = 365
MOST_DAYS = 3660
"""Maximum in one request."""
LEGEND = {character: state.value for state, character in CHARACTER.items()}


class _Kept(NamedTuple):
    """A row, and what it was computed from."""

    basis: tuple[object, ...]
    row: DayRow

    def is_of(self, basis: tuple[object, ...]) -> bool:
        """Nothing has changed; arrays are compared by identity, since they never change."""
        pairs = zip(self.basis, basis, strict=True)
        return all(one is other or _is_same(one, other) for one, other in pairs)


def _is_same(one: object, other: object) -> bool:
    return isinstance(one, int | str) and one == other


@dataclass
class CoverageGrids:
    """The grids of one store. `kept_days`: how many days are kept complete by default."""

    kept_days: int
    _rows: dict[Series, _Kept] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def grid(
        self,
        store: StoreSnapshot,
        span: tuple[int | None, int | None],
        now: float,
        *,
        is_held: bool,
    ) -> CoverageGrid:
        """The grid of the days from the first to the last of `span` (UTC midnights, inclusive).

        By default the last one is the newest of which bars are due, or today, and the first one
        364 days before. `is_held`: nothing is requested for now. InvalidRequest: too many days, or
        none.
        """
        today = int(now) - int(now) % DAY_S
        rows = self._rows_of(store, today, is_held=is_held)
        first, days = _bounds(span, today, rows)
        listed = [
            GridRow(
                series.symbol,
                series.timeframe.value,
                store.state_of(one),
                rows[series].between(first, days),
            )
            for series, one in store.series.items()
        ]
        day = _iso(first)
        return CoverageGrid(_version(day, days, listed), day, days, LEGEND, listed)

    def _rows_of(
        self, store: StoreSnapshot, today: int, *, is_held: bool
    ) -> Mapping[Series, DayRow]:
        with self._lock:
            self._rows = {
                series: self._kept(one, today, is_held=is_held)
                for series, one in store.series.items()
            }
            return {series: kept.row for series, kept in self._rows.items()}

    def _kept(self, one: SeriesSnapshot, today: int, *, is_held: bool) -> _Kept:
        open_state = state_of_open(one.error, is_held=is_held)
        basis = _basis(one, open_state, today)
        kept = self._rows.get(one.series)
        if kept is not None and kept.is_of(basis):
            return kept
        return _Kept(basis, self._row(one, open_state, today))

    def _row(self, one: SeriesSnapshot, open_state: DayState, today: int) -> DayRow:
        schedule = one.basis.schedule
        if one.coverage is not None:
            parts = [part for part in (one.past, one.coverage) if part is not None]
            return row_of(parts, open_state, schedule, today)
        if one.error is None:
            return DayRow(today, "")
        first, since = (
            today - self.kept_days * DAY_S,
            one.instrument.since_for(one.series.timeframe),
        )
        if since is not None:
            first = min(first, utc_midnight(since))
        return row_without_coverage(first, one.error, schedule, today)


def _basis(one: SeriesSnapshot, open_state: DayState, today: int) -> tuple[object, ...]:
    """All that a row depends on; a coverage is replaced at each scan, and its days are not."""
    past, coverage = one.past, one.coverage
    return (
        today,
        open_state.value,
        coverage.days if coverage else None,
        coverage.since if coverage else None,
        past.days if past else None,
        past.since if past else None,
        one.basis.schedule,
        one.instrument,
    )


def _bounds(
    span: tuple[int | None, int | None], today: int, rows: Mapping[Series, DayRow]
) -> tuple[int, int]:
    """The first day and the number of days."""
    first, last = span
    if last is None:
        newest = [row.newest for row in rows.values()]
        last = max([today, *(day for day in newest if day is not None and day <= today + DAY_S)])
    if first is None:
        first = max(0, last - (DEFAULT_DAYS - 1) * DAY_S)
    days = (last - first) // DAY_S + 1
    if not 0 < days <= MOST_DAYS:
        between = f"from={_iso(first)} to={_iso(last)}"
        raise InvalidRequest(f"{between}: expected 1 to {MOST_DAYS} days, the first one first")
    return first, days


def _iso(day: int) -> str:
    return datetime.fromtimestamp(day, UTC).date().isoformat()


def _version(day: str, days: int, rows: list[GridRow]) -> str:
    digest = hashlib.blake2b(f"{day} {days}".encode(), digest_size=12)
    for row in rows:
        digest.update(f"\n{row.symbol}_{row.timeframe} {row.state} {row.row}".encode())
    return digest.hexdigest()


def span_of(query: Mapping[str, str]) -> tuple[int | None, int | None]:
    """`from` and `to` of a query, both inclusive, as UTC midnights; None: not given.

    InvalidRequest: not a day.
    """
    first, last = (_day(query, name) for name in ("from", "to"))
    return first, last


def _day(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    time_s = time_from_text(name, query[name])
    if time_s < 0:
        raise InvalidRequest(f"{name}={query[name]}: expected a day from 1970-01-01 on")
    return time_s - time_s % DAY_S
