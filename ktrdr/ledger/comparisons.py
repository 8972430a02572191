"""Comparisons in the ledger: how far imported series were compared with IB. Compares none."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ktrdr.market.instruments import Series
from ktrdr.sqlite_file import Database

_COLUMNS = "checksum, reached, total, compared, absent, unlisted, empty_at, is_over"


class ComparisonRecord(NamedTuple):
    """How far a series was compared, from its newest imported bar to the oldest."""

    checksum: str
    """Of the record of the import."""
    reached: int
    """The imported bars from this start on were compared (UTC seconds)."""
    total: int
    """Imported bars, as far as they are in the file."""
    compared: int = 0
    """Those of them that IB has, of the ones that were requested."""
    absent: int = 0
    """Those that IB does not have."""
    unlisted: int = 0
    """Bars that differ, and for which there was no room on record."""
    empty_at: int | None = None
    """When IB had none of the bars that come next, or just before them (UTC seconds)."""
    is_over: bool = False
    """Nothing more is requested."""


class ComparisonRecords:
    """The comparisons of one store, by series. For one thread."""

    def __init__(self, database: Callable[[], Database]) -> None:
        """`database`: the ledger, opened when it is first needed."""
        self._db = database

    def of(self, series: Series) -> ComparisonRecord | None:
        """That of a series; None: none was begun."""
        query = f"SELECT {_COLUMNS} FROM comparisons WHERE series = ?"  # noqa: S608  it is fixed
        row = self._db().execute(query, (str(series),)).fetchone()
        return ComparisonRecord._make((*row[:-1], bool(row[-1]))) if row else None

    def keep(self, series: Series, record: ComparisonRecord) -> None:
        """Record that of a series."""
        marks = ", ".join("?" * (1 + len(record)))
        insert = f"INSERT OR REPLACE INTO comparisons VALUES ({marks})"  # noqa: S608  fixed
        with self._db() as database:
            database.execute(insert, (str(series), *record[:-1], int(record.is_over)))

    def forget(self, series: Series) -> None:
        """Have the series compared anew."""
        with self._db() as database:
            database.execute("DELETE FROM comparisons WHERE series = ?", (str(series),))
