"""The ledger as a SQLite file: its tables, and what a new one takes over from an earlier one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ktrdr.completeness.fill import State
from ktrdr.ledger.revisions import COLUMNS
from ktrdr.market.instruments import parse_series
from ktrdr.sqlite_file import Database, DatabaseError, Schema, reading
from ktrdr.store.index import INDEX
from ktrdr.store.written_rows import COLUMNS as WRITTEN_COLUMNS
from ktrdr.store.written_rows import TABLES as WRITTEN_ROWS

log = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS asked (
    series TEXT, start INTEGER, end INTEGER, at INTEGER, outcome TEXT, code INTEGER, bars INTEGER
);
CREATE INDEX IF NOT EXISTS asked_at ON asked (at);
CREATE TABLE IF NOT EXISTS absent (
    series TEXT, first INTEGER, last INTEGER, verified INTEGER, at INTEGER, expires_at INTEGER,
    PRIMARY KEY (series, first, last, verified)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doubts (
    series TEXT, first INTEGER, last INTEGER, times INTEGER, first_at INTEGER, again_at INTEGER,
    PRIMARY KEY (series, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lacked (
    contract TEXT, day INTEGER, times INTEGER, first_at INTEGER, PRIMARY KEY (contract, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unscheduled (
    series TEXT, start INTEGER, open REAL, high REAL, low REAL, close REAL, volume REAL,
    times INTEGER, first_at INTEGER, PRIMARY KEY (series, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schedules (contract TEXT PRIMARY KEY, fetched_at INTEGER, body TEXT);
CREATE TABLE IF NOT EXISTS alignments (contract TEXT PRIMARY KEY, minutes TEXT);
CREATE TABLE IF NOT EXISTS identities (series TEXT PRIMARY KEY, known TEXT, told TEXT);
CREATE TABLE IF NOT EXISTS grids (
    contract TEXT, timeframe TEXT, minute INTEGER, seen INTEGER, times INTEGER, first_at INTEGER,
    last_at INTEGER, PRIMARY KEY (contract, timeframe)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lives (
    contract TEXT PRIMARY KEY, head INTEGER, head_at INTEGER, expires INTEGER
);
CREATE TABLE IF NOT EXISTS fills (
    id INTEGER PRIMARY KEY AUTOINCREMENT, series TEXT, since INTEGER, asked_at INTEGER, state TEXT,
    ended_at INTEGER, expected INTEGER, present INTEGER, missing TEXT, paused_at INTEGER
);
CREATE INDEX IF NOT EXISTS fills_of ON fills (series);
CREATE TABLE IF NOT EXISTS spans (timeframe TEXT PRIMARY KEY, days REAL);
CREATE TABLE IF NOT EXISTS files (
    series TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, ours INTEGER
);
CREATE TABLE IF NOT EXISTS renewals (series TEXT PRIMARY KEY, since INTEGER, why TEXT);
CREATE TABLE IF NOT EXISTS clock (
    one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT, base_s REAL, wall_s REAL
);
CREATE TABLE IF NOT EXISTS looks (series TEXT, what TEXT, at INTEGER, PRIMARY KEY (series, what));
CREATE TABLE IF NOT EXISTS revisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, series TEXT, at INTEGER, start INTEGER,
    old_open REAL, old_high REAL, old_low REAL, old_close REAL, old_volume REAL,
    new_open REAL, new_high REAL, new_low REAL, new_close REAL, new_volume REAL,
    why TEXT, kept TEXT, last INTEGER, bars INTEGER NOT NULL DEFAULT 0, price REAL, volume REAL
);
CREATE TABLE IF NOT EXISTS comparisons (
    series TEXT PRIMARY KEY, checksum TEXT, reached INTEGER, total INTEGER, compared INTEGER,
    absent INTEGER, unlisted INTEGER, empty_at INTEGER, is_over INTEGER
);
CREATE INDEX IF NOT EXISTS revisions_of ON revisions (series);
CREATE INDEX IF NOT EXISTS revisions_at ON revisions (at);
"""


def _make_fills_of_what_was_wanted(database: Database, _path: Path) -> None:
    """Before there were fills, requests had a table of their own, one day for each series."""
    if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'wanted'").fetchone():
        return
    with database:
        database.execute("BEGIN IMMEDIATE")
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'wanted'").fetchone():
            database.execute(
                "INSERT INTO fills (series, since, state) "
                "SELECT series, max(since - since % 86400, 0), 'queued' FROM wanted"
            )
            database.execute("DROP TABLE wanted")


def _add_pauses(database: Database, _path: Path) -> None:
    """Before fills could be paused, the table lacked a column."""
    if has_pauses(database):
        return
    with database:
        database.execute("BEGIN IMMEDIATE")
        if not has_pauses(database):
            database.execute("ALTER TABLE fills ADD COLUMN paused_at INTEGER")


def has_pauses(database: Database) -> bool:
    """Whether the table of fills has the time at which each was paused."""
    return _has_column(database, "fills", "paused_at")


def _has_column(database: Database, table: str, column: str) -> bool:
    query = "SELECT 1 FROM pragma_table_info(?) WHERE name = ?"
    return database.execute(query, (table, column)).fetchone() is not None


def _add_differences(database: Database, _path: Path) -> None:
    """Before differences were recorded, the table of revisions lacked their columns."""
    if _has_column(database, "revisions", "bars"):
        return
    with database:
        database.execute("BEGIN IMMEDIATE")
        if _has_column(database, "revisions", "bars"):
            return
        bars = "bars INTEGER NOT NULL DEFAULT 0"
        for column in ("last INTEGER", bars, "price REAL", "volume REAL"):
            database.execute(f"ALTER TABLE revisions ADD COLUMN {column}")


def _take_over_fills(database: Database, aside: Path) -> None:
    """Fill requests are kept, as far as a ledger that was put aside can still be read."""
    found: list[tuple[Any, ...]] = []
    columns = "id, series, since, asked_at, state, ended_at, expected, present, missing"
    try:
        with reading(aside) as old:
            paused_at = "paused_at" if has_pauses(old) else "NULL"
            query = f"SELECT {columns}, {paused_at} FROM fills"  # noqa: S608  both are fixed
            found.extend(row for row in old.execute(query) if _is_fill(row[1], row[2], row[4]))
    except DatabaseError as error:
        log.warning("its fill requests cannot be read (%s): request them again", error)
    insert = (
        f"INSERT OR IGNORE INTO fills ({columns}, paused_at) "  # noqa: S608  as above
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    with database:
        database.executemany(insert, found)


def _take_over_revisions(database: Database, aside: Path) -> None:
    """The same of revisions: what was stored before them is nowhere else.

    Not of differences: they are in the file, and found again.
    """
    columns = ", ".join(COLUMNS)
    found: list[tuple[Any, ...]] = []
    try:
        with reading(aside) as old:
            if old.execute("SELECT 1 FROM sqlite_schema WHERE name = 'revisions'").fetchone():
                corrected = " WHERE bars = 0" if _has_column(old, "revisions", "bars") else ""
                query = f"SELECT {columns} FROM revisions{corrected}"  # noqa: S608  they are fixed
                found.extend(row for row in old.execute(query) if _is_revision(row))
    except DatabaseError as error:
        log.warning("its record of revised bars cannot be read (%s)", error)
    marks = ", ".join("?" * len(COLUMNS))
    insert = f"INSERT OR IGNORE INTO revisions ({columns}) VALUES ({marks})"  # noqa: S608  as above
    with database:
        database.executemany(insert, found)


def _is_revision(row: tuple[Any, ...]) -> bool:
    """As `_is_fill`."""
    _, series, at, start, *numbers, why, kept = row
    is_whole = start is None and numbers == [None] * len(numbers)
    is_bar = isinstance(start, int) and all(isinstance(number, float) for number in numbers)
    is_text = isinstance(why, str) and isinstance(kept, str)
    return _is_series(series) and isinstance(at, int) and (is_whole or is_bar) and is_text


def _is_series(name: object) -> bool:
    try:
        parse_series(f"{name}.csv")
    except ValueError:
        return False
    return True


def _take_over_written_rows(database: Database, aside: Path) -> None:
    """The same of which rows ktrdr wrote into files of others."""
    found: list[tuple[str, list[tuple[Any, ...]]]] = []
    try:
        with reading(aside) as old:
            if old.execute("SELECT 1 FROM sqlite_schema WHERE name = 'written_rows'").fetchone():
                for table, columns in WRITTEN_COLUMNS.items():
                    query = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608  fixed names
                    rows = [row for row in old.execute(query) if _is_series(row[0])]
                    found.append((table, rows))
    except DatabaseError as error:
        log.warning("which rows are ktrdr's in files of others cannot be read (%s)", error)
        return
    with database:
        for table, rows in found:
            names = WRITTEN_COLUMNS[table]
            values = f"({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
            insert = f"INSERT OR IGNORE INTO {table} {values}"
            database.executemany(insert, rows)


def _take_over(database: Database, aside: Path) -> None:
    _take_over_fills(database, aside)
    _take_over_revisions(database, aside)
    _take_over_written_rows(database, aside)


def _is_fill(series: object, since: object, state: object) -> bool:
    """A row that this version understands, whichever version has written it."""
    try:
        State(str(state))
    except ValueError:
        return False
    return _is_series(series) and isinstance(since, int)


LEDGER = Schema(
    _TABLES + INDEX.tables + WRITTEN_ROWS,
    INDEX.version,
    (_make_fills_of_what_was_wanted, _add_pauses, _add_differences, *INDEX.upgrades),
    _take_over,
)
"""All that the gap filler keeps of a store, including its index of the files."""
