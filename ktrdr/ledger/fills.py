"""Fill records in the ledger: requested, paused, done, cancelled. Decides nothing about them.

Each call opens the ledger by itself, so a fill is recorded before it is acknowledged, whatever the
gap filler is doing at that time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ktrdr.completeness.fill import TABLE, Counts, Event, Fill, State
from ktrdr.errors import StoreUnwritable
from ktrdr.ledger.file import LEDGER, has_pauses
from ktrdr.market.instruments import Series, parse_series
from ktrdr.market.timeframes import DAY_S
from ktrdr.sqlite_file import Database, DatabaseError, open_database, reading

_WAIT_S = 2.0
"""How long to wait for a locked ledger: the caller waits for 5 s."""
_KEPT_S, _KEPT = 30 * DAY_S, 200
"""How long fills stay listed that are done or cancelled, and how many of them."""

_COLUMNS = "id, series, since, asked_at, state, ended_at, expected, present, missing"
_FORGET = """
DELETE FROM fills WHERE state IN ('done', 'cancelled')
AND (ended_at < ? OR id NOT IN (
    SELECT id FROM fills WHERE state IN ('done', 'cancelled')
    ORDER BY ended_at DESC, id DESC LIMIT ?
))
AND NOT (state = 'done' AND since = (
    SELECT min(since) FROM fills AS other
    WHERE other.series = fills.series AND other.state != 'cancelled'
))
"""
"""Except done fills that keep a series complete from an earlier day on than all others."""


class FillRecords:
    """For any thread. StoreUnwritable from each call: the ledger is locked, or cannot be written.

    `path`: the ledger; it is created with the first fill.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def request(self, series: Series, since: int, now: int) -> Fill:
        """Record that a series is wanted from a UTC midnight on (UTC seconds).

        If an open fill has the same start, that one is returned, and resumed if it is paused.
        """
        with self._writing() as database:
            for fill in _all(database, "series = ? AND since = ?", str(series), since):
                if fill.state.is_open:
                    return _resumed(database, fill)
            made = database.execute(
                "INSERT INTO fills (series, since, asked_at, state) VALUES (?, ?, ?, ?)",
                (str(series), since, now, State.QUEUED.value),
            )
            database.execute(_FORGET, (now - _KEPT_S, _KEPT))
            return Fill(int(made.lastrowid or 0), series, since, now)

    def cancel(self, ids: Collection[int], now: int) -> list[Fill]:
        """Record that these are not wanted any more; returns them, now cancelled."""
        with self._writing() as database:
            found = [fill for fill in _all(database) if fill.id in ids]
            for fill in found:
                to = TABLE[fill.state, Event.CANCELLED]
                database.execute(
                    "UPDATE fills SET state = ?, ended_at = ? WHERE id = ? AND state != ?",
                    (to.value, now, fill.id, to.value),
                )
            return [fill for fill in _all(database) if fill.id in ids]

    def pause(self, id_: int, counted: Counts | None, now: int) -> Fill | None:
        """Record that a fill is paused, with the counts of its bars; returns it, None: no such.

        One that is done, cancelled or paused already stays as it is.
        """
        with self._writing() as database:
            database.execute(
                "UPDATE fills SET state = 'paused', paused_at = ?, expected = ?, present = ?, "
                "missing = ? WHERE id = ? AND state NOT IN ('done', 'cancelled', 'paused')",
                (now, *_columns_of(counted), id_),
            )
            return next(iter(_all(database, "id = ?", id_)), None)

    def resume(self, id_: int) -> Fill | None:
        """Record that a paused fill goes on; returns it, None: there is no such fill."""
        with self._writing() as database:
            found = _all(database, "id = ?", id_)
            return _resumed(database, found[0]) if found else None

    def complete(self, id_: int, counted: Counts, now: int) -> None:
        """Record that an open fill is done, with the counts of its bars."""
        row = (State.DONE.value, now, *_columns_of(counted))
        with self._writing() as database:
            database.execute(
                "UPDATE fills SET state = ?, ended_at = ?, expected = ?, present = ?, missing = ? "
                "WHERE id = ? AND state NOT IN ('done', 'cancelled', 'paused')",
                (*row, id_),
            )

    def listed(self) -> list[Fill]:
        """All fills, oldest first. Changes nothing: the store may be of the other source."""
        if not self._path.exists():
            return []
        try:
            with reading(self._path, _WAIT_S) as database:
                has_fills = "SELECT 1 FROM sqlite_schema WHERE name = 'fills'"
                return _all(database) if database.execute(has_fills).fetchone() else []
        except DatabaseError as error:
            raise StoreUnwritable(
                f"{self._path.name} cannot be read: {error}", hint=f"see who uses {self._path}"
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Database]:
        """One transaction, which is on the disk at the end."""
        with self._opened() as database:
            database.execute("PRAGMA synchronous = FULL")
            with database:
                database.execute("BEGIN IMMEDIATE")
                yield database

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Database]:
        try:
            self._refuse_remains()
            with contextlib.closing(open_database(self._path, LEDGER, _WAIT_S)) as database:
                yield database
        except (DatabaseError, OSError) as error:
            raise StoreUnwritable(
                f"{self._path.name} cannot be written: {error}; nothing was changed",
                hint=f"see whether the disk with {self._path} is full or read-only, and who else "
                "uses it, then try again",
            ) from error

    def _refuse_remains(self) -> None:
        """Raise if the log of a deleted ledger remains: SQLite would apply it to a new one."""
        log = self._path.with_name(f"{self._path.name}-wal")
        if log.exists() and not self._path.exists():
            raise StoreUnwritable(
                f"{self._path.name} was deleted a moment ago; nothing was changed",
                hint="try again in a minute, when the gap filler has begun a new one",
            )


def _resumed(database: Database, fill: Fill) -> Fill:
    """An open fill, which is not paused any more."""
    if fill.state is not State.PAUSED:
        return fill
    to = TABLE[fill.state, Event.RESUMED]
    database.execute(
        "UPDATE fills SET state = ?, paused_at = NULL WHERE id = ?", (to.value, fill.id)
    )
    return replace(fill, state=to, paused_at=None)


def _columns_of(counted: Counts | None) -> tuple[object, object, object]:
    if counted is None:
        return None, None, None
    return counted.expected, counted.present, json.dumps(dict(counted.missing))


def _all(database: Database, where: str = "1", *values: object) -> list[Fill]:
    """Those that meet a fixed SQL condition, oldest first."""
    paused_at = "paused_at" if has_pauses(database) else "NULL"  # an earlier one is only read
    query = f"SELECT {_COLUMNS}, {paused_at} FROM fills WHERE {where} ORDER BY id"  # noqa: S608
    return [_fill(*row) for row in database.execute(query, values)]


def _fill(
    id_: int,
    series: str,
    since: int,
    requested_at: int | None,
    state: str,
    ended_at: int | None,
    *of: Any,
) -> Fill:
    expected, present, missing, paused_at = of
    counts = None if expected is None else Counts(expected, present, json.loads(missing))
    name = f"{series}.csv"
    return Fill(
        id_, parse_series(name), since, requested_at, State(state), ended_at, counts, paused_at
    )
