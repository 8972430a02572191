"""Revision records in the ledger: which stored bars were corrected, from what to what, and when.

The same table has bars of other people's rows that IB has otherwise; `differences` writes these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ktrdr.completeness.differences import Difference
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import DAY_S
from ktrdr.sqlite_file import Database

KEPT = 1000
"""How many revisions of a series stay on record, the newest."""
_KEPT_S = 365 * DAY_S

_PRICES = ("open", "high", "low", "close", "volume")
COLUMNS = (
    *("id", "series", "at", "start"),
    *(f"old_{name}" for name in _PRICES),
    *(f"new_{name}" for name in _PRICES),
    *("why", "kept"),
)
"""The columns of the table `revisions` that each of its rows has, in its order."""
LEFT_COLUMNS = ("last", "bars", "price", "volume")
"""The further ones, of bars that were left as they are; `bars` is 0 for all others."""
_ALL = ", ".join((*COLUMNS, *LEFT_COLUMNS))
_OF_SPAN = (
    "series = :series AND (start IS NULL OR (coalesce(last, start) >= :first AND start < :end))"
)
_FORGET = """
DELETE FROM revisions WHERE bars = 0 AND (at < :oldest OR (series = :series AND id <= (
    SELECT id FROM revisions WHERE series = :series AND bars = 0
    ORDER BY id DESC LIMIT 1 OFFSET :kept
)))
"""


class RevisionRecord(NamedTuple):
    """One bar that was corrected; or one rebuild, which replaced all bars of its series.

    Or one difference, which was left as it is.
    """

    id: int
    """A larger one was recorded later."""
    at: int
    """When the file was changed, or the difference was found (UTC seconds)."""
    old: Bar | None
    """As it was stored; None: a rebuild."""
    new: Bar | None
    """As it is stored since, or as IB has it; None: a rebuild."""
    why: str
    """Of a rebuild; else empty."""
    kept: str
    """Where a rebuild has kept the old file, from the store's folder on; else empty."""
    left: Difference | None = None
    """The file was left as it is."""


class RevisionRecords:
    """The revisions of one store, by series. For one thread."""

    def __init__(self, database: Callable[[], Database]) -> None:
        """`database`: the ledger, opened when it is first needed."""
        self._db = database

    def record(self, series: Series, corrected: Iterable[tuple[Bar, Bar]], now: int) -> None:
        """Record that these bars were corrected: each as it was stored, and as it is now."""
        rows = [(old.start, *old[1:], *new[1:], "", "") for old, new in corrected]
        self._record(series, rows, now)

    def record_rebuild(self, series: Series, why: str, kept: str, now: int) -> None:
        """Record that the whole series was replaced; `kept`: the old file's path in the store."""
        self._record(series, [(*[None] * 11, why, kept)], now)

    def _record(self, series: Series, rows: Sequence[tuple[object, ...]], now: int) -> None:
        columns, marks = ", ".join(COLUMNS[1:]), ", ".join("?" * len(COLUMNS[1:]))
        insert = f"INSERT INTO revisions ({columns}) VALUES ({marks})"  # noqa: S608  both are fixed
        limits = {"oldest": now - _KEPT_S, "series": str(series), "kept": KEPT}
        with self._db() as database:
            database.executemany(insert, [(str(series), now, *row) for row in rows])
            database.execute(_FORGET, limits)

    def newest(
        self, series: Series, span: tuple[int, int], most: int, before: int | None = None
    ) -> list[RevisionRecord]:
        """The newest revisions of bars that start in `span`, `[start, end)`, the newest first.

        With the rebuilds, which concern all bars. `before`: only those with a smaller id.
        """
        query = (
            f"SELECT {_ALL} FROM revisions WHERE {_OF_SPAN} "  # noqa: S608  both are fixed
            "AND (:before IS NULL OR id < :before) ORDER BY id DESC LIMIT :most"
        )
        values = {**_values(series, span), "before": before, "most": most}
        return [_record(*row) for row in self._db().execute(query, values)]

    def count(self, series: Series, span: tuple[int, int]) -> int:
        """How many revisions of these bars are on record."""
        query = f"SELECT count(*) FROM revisions WHERE {_OF_SPAN}"  # noqa: S608  it is fixed
        return int(self._db().execute(query, _values(series, span)).fetchone()[0])


def _values(series: Series, span: tuple[int, int]) -> dict[str, object]:
    return {"series": str(series), "first": span[0], "end": span[1]}


def _record(id_: int, _series: str, at: int, start: int | None, *more: Any) -> RevisionRecord:
    *numbers, why, kept, last, bars, price, volume = more
    if start is None:
        return RevisionRecord(id_, at, None, None, why, kept)
    old, new = Bar(start, *numbers[:5]), Bar(start, *numbers[5:])
    left = Difference(old, new, last, bars, price, volume) if bars else None
    return RevisionRecord(id_, at, old, new, left.words if left else why, kept, left)
