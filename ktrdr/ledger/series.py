"""Series records in the ledger: who owns the file, when it was checked, whether it is rebuilt."""

from __future__ import annotations

from collections.abc import Callable

from ktrdr.market.instruments import Series
from ktrdr.sqlite_file import Database
from ktrdr.store.file_key import FileKey


class SeriesRecords:
    """The series of one store. For one thread."""

    def __init__(self, database: Callable[[], Database]) -> None:
        """`database`: the ledger, opened when it is first needed."""
        self._db = database

    def file(self, series: Series) -> tuple[FileKey, bool] | None:
        """The file as last written or read, and whether all of it is owned."""
        query = "SELECT size, mtime_ns, inode, ours FROM files WHERE series = ?"
        row = self._db().execute(query, (str(series),)).fetchone()
        return ((row[0], row[1], row[2]), bool(row[3])) if row else None

    def keep_file(self, series: Series, key: FileKey, *, is_owned: bool) -> None:
        """Record the file."""
        with self._db() as database:
            database.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                (str(series), *key, int(is_owned)),
            )

    def checked_at(self, series: Series, what: str) -> int | None:
        """When this check was last made; None: never."""
        query = "SELECT at FROM looks WHERE series = ? AND what = ?"
        row = self._db().execute(query, (str(series), what)).fetchone()
        return int(row[0]) if row else None

    def note_check(self, series: Series, what: str, now: int) -> None:
        """Record that this check is made now."""
        with self._db() as database:
            database.execute(
                "INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", (str(series), what, now)
            )

    def rebuilds(self) -> dict[str, tuple[int, str]]:
        """Series that are being rebuilt: from when on, and why."""
        rows = self._db().execute("SELECT series, since, why FROM renewals").fetchall()
        return {series: (since, why) for series, since, why in rows}

    def keep_rebuild(self, series: Series, since: int, why: str) -> None:
        """Record that the series is being rebuilt."""
        with self._db() as database:
            row = (str(series), since, why)
            database.execute("INSERT OR REPLACE INTO renewals VALUES (?, ?, ?)", row)

    def end_rebuild(self, series: Series) -> None:
        """Record that the rebuild is over."""
        with self._db() as database:
            database.execute("DELETE FROM renewals WHERE series = ?", (str(series),))

    def wanted(self, series: Series) -> int | None:
        """The earliest day wanted of the series by fills; None: none.

        Fills that were cancelled or are paused do not count.
        """
        query = (
            "SELECT min(since) FROM fills WHERE series = ? AND state NOT IN ('cancelled', 'paused')"
        )
        row = self._db().execute(query, (str(series),)).fetchone()
        return None if row[0] is None else int(row[0])
