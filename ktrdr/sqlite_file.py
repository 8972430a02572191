"""Opens a SQLite file of ours, and begins a new one where it cannot be read. Knows no tables."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

_NO_DATABASE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = logging.getLogger(__name__)


def open_database(
    path: Path,
    tables: str,
    version: int = 1,
    wait_s: float = 10.0,
    take_over: Callable[[sqlite3.Connection, Path], None] | None = None,
) -> sqlite3.Connection:
    """The database at `path` with these tables, made where they are lacking; for any thread.

    `wait_s`: how long another process that writes just now is waited for.
    What is no database, or has tables of another version, is put aside as `.broken`, and
    `take_over` may fetch from there, into the new one, what nobody can find out again.
    sqlite3.Error: it is locked, or the disk is full. OSError: its folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open(path, tables, version, wait_s)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise  # it is as good as ever
        return begin_anew(path, error, tables, version, wait_s, take_over)


def is_damage(error: BaseException) -> bool:
    """What is in the file cannot be read, and does not heal."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_DATABASE


def begin_anew(
    path: Path,
    why: sqlite3.Error,
    tables: str,
    version: int = 1,
    wait_s: float = 10.0,
    take_over: Callable[[sqlite3.Connection, Path], None] | None = None,
) -> sqlite3.Connection:
    """A new database in the place of one that is put aside; all else as `open_database`."""
    aside = path.with_suffix(".broken")
    log.warning("%s cannot be read (%s): put aside as %s", path, why, aside.name)
    _put_aside(path, aside)
    connection = _open(path, tables, version, wait_s)
    if take_over is not None:
        take_over(connection, aside)
    return connection


def _put_aside(path: Path, aside: Path) -> None:
    """Move a database away with its log, which may have what was written last."""
    for companion in ("-wal", "-shm"):
        aside.with_name(aside.name + companion).unlink(missing_ok=True)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    path.replace(aside)
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{path.name}-wal").replace(aside.with_name(f"{aside.name}-wal"))


def _open(path: Path, tables: str, version: int, wait_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=wait_s, check_same_thread=False)
    try:
        _log_ahead(connection, wait_s)
        connection.execute("PRAGMA synchronous = NORMAL")
        _check_version(connection, version)
        with contextlib.closing(connection.executescript(tables)):
            return connection
    except sqlite3.DatabaseError:
        connection.close()
        raise


def _log_ahead(connection: sqlite3.Connection, wait_s: float) -> None:
    """Switch to WAL. SQLite itself waits for nobody who does the same at that moment."""
    until = time.monotonic() + wait_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return


def _check_version(connection: sqlite3.Connection, version: int) -> None:
    """A new file is of this version from now on; a DatabaseError for another one's."""
    if _version_of(connection) == version:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")  # of several that open a new file one is the first
        found = _version_of(connection)
        if found == version:
            return
        if found or connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            error = sqlite3.DatabaseError(
                f"its tables are of version {found}, and not of {version}"
            )
            error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
            raise error
        connection.execute(f"PRAGMA user_version = {version:d}")


def _version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
