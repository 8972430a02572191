"""Request records in the ledger: how each request for bars ended, and how long one may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ktrdr.completeness.gaps import Gap
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import DAY_S
from ktrdr.sqlite_file import Database

_REQUESTS_KEPT_S = 30 * DAY_S
_MOST_WITHIN = 200


class RequestRecord(NamedTuple):
    """One request for the bars in `[start, end)`; times in UTC seconds."""

    at: int
    start: int
    end: int
    outcome: str
    """`bars`, `no_data`, or the name of an error."""
    code: int | None
    """IB's."""
    bars: int
    """How many were received."""


class RequestRecords:
    """The requests of one store. For one thread."""

    def __init__(self, database: Callable[[], Database]) -> None:
        """`database`: the ledger, opened when it is first needed."""
        self._db = database

    def answered(self, series: Series, start: int, end: int, now: int, bars: int) -> None:
        """Record that IB has answered for `[start, end)` with this many bars."""
        self._requested(series, start, end, now, "bars" if bars else "no_data", None, bars)

    def refused(
        self, series: Series, start: int, end: int, now: int, outcome: str, code: int | None
    ) -> None:
        """Record that IB has not answered for `[start, end)`, or with an error."""
        self._requested(series, start, end, now, outcome, code, 0)

    def _requested(
        self,
        series: Series,
        start: int,
        end: int,
        now: int,
        outcome: str,
        code: int | None,
        bars: int,
    ) -> None:
        row = (str(series), start, end, now, outcome, code, bars)
        with self._db() as database:
            database.execute("INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            database.execute("DELETE FROM asked WHERE at < ?", (now - _REQUESTS_KEPT_S,))

    def within(self, series: Series, start: int, end: int) -> list[RequestRecord]:
        """The newest requests that touched `[start, end)`, the newest first."""
        query = (
            "SELECT at, start, end, outcome, code, bars FROM asked WHERE series = ? "
            "AND start < ? AND end > ? ORDER BY at DESC, start DESC LIMIT ?"
        )
        rows = self._db().execute(query, (str(series), end, start, _MOST_WITHIN)).fetchall()
        return [RequestRecord(*row) for row in rows]

    def last_bars_at(self, series: Series, around: Gap, reach_s: int) -> int | None:
        """When the last request near a gap was sent that was answered with bars; None: never."""
        query = (
            "SELECT max(at) FROM asked WHERE series = ? AND outcome = 'bars' "
            "AND start < ? AND end > ?"
        )
        interval = (around.last + reach_s, around.first - reach_s)
        row = self._db().execute(query, (str(series), *interval)).fetchone()
        return None if row[0] is None else int(row[0])

    def spans(self) -> dict[str, float]:
        """Timeframe → days in one request, as learnt."""
        return dict(self._db().execute("SELECT timeframe, days FROM spans").fetchall())

    def keep_request_lengths(self, days: Mapping[str, float]) -> None:
        """Record the days in one request."""
        with self._db() as database:
            database.executemany("INSERT OR REPLACE INTO spans VALUES (?, ?)", days.items())
