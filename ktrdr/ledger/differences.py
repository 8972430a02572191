"""Differences in the ledger: bars of files with rows of others that IB has otherwise.

They are rows of the table `revisions`, whose readers list them with the bars that were corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ktrdr.completeness.differences import Difference
from ktrdr.ledger.revisions import COLUMNS, KEPT, LEFT_COLUMNS
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.sqlite_file import Database

_NUMBERS = ", ".join(name for name in COLUMNS if name.startswith(("old_", "new_")))
_ROW = f"id, start, {_NUMBERS}, {', '.join(LEFT_COLUMNS)}"
_OF_SPAN = "series = ? AND bars > 0 AND last >= ? AND start <= ?"


class DifferenceRecords:
    """The differences of one store, by series. For one thread."""

    def __init__(self, database: Callable[[], Database]) -> None:
        """`database`: the ledger, opened when it is first needed."""
        self._db = database

    def within(self, series: Series, first: int, last: int) -> dict[int, Difference]:
        """Id → each that reaches into this interval of starts, both included, oldest first."""
        query = f"SELECT {_ROW} FROM revisions WHERE {_OF_SPAN} ORDER BY start"  # noqa: S608  fixed
        found = self._db().execute(query, (str(series), first, last))
        return {
            id_: Difference(Bar(start, *numbers[:5]), Bar(start, *numbers[5:10]), *numbers[10:])
            for id_, start, *numbers in found
        }

    def replace(
        self, series: Series, gone: Iterable[int], found: Iterable[Difference], now: int
    ) -> list[Difference]:
        """Record these instead of those with the ids in `gone`, at most 1,000 of the series.

        Those of most bars come first, and of equals the newest. Returns those for which there was
        no room.
        """
        columns = f"series, at, start, {_NUMBERS}, why, kept, {', '.join(LEFT_COLUMNS)}"
        marks = ", ".join("?" * len(columns.split(",")))
        insert = f"INSERT INTO revisions ({columns}) VALUES ({marks})"  # noqa: S608  both are fixed
        with self._db() as database:
            database.executemany("DELETE FROM revisions WHERE id = ?", [(one,) for one in gone])
            query = "SELECT count(*) FROM revisions WHERE series = ? AND bars > 0"
            room = KEPT - int(database.execute(query, (str(series),)).fetchone()[0])
            all_ = sorted(found, key=lambda one: (one.bars, one.first), reverse=True)
            kept, others = all_[: max(room, 0)], all_[max(room, 0) :]
            rows = [(str(series), now, *one.old, *one.new[1:], "", "", *one[2:]) for one in kept]
            database.executemany(insert, rows)
        return others

    def bars(self, series: Series) -> int:
        """How many bars of the series they are."""
        query = "SELECT sum(bars) FROM revisions WHERE series = ? AND bars > 0"
        return int(self._db().execute(query, (str(series),)).fetchone()[0] or 0)

    def forget(self, series: Series) -> None:
        """Forget all of a series."""
        with self._db() as database:
            query = "DELETE FROM revisions WHERE series = ? AND bars > 0"
            database.execute(query, (str(series),))
