"""State in a SQLite file: opened, and begun anew where it must be. Knows no tables of its own.

One file has one program that writes it. What becomes of it is the same for all of them:

- locked by another process: waited for, then an error; it is tried again when it is needed next;
- of an earlier version: brought up to date where its schema knows how, else as damaged;
- damaged, or of a later version: put aside as `.broken`, and begun anew with what the schema can
  take over from it;
- deleted or replaced: begun anew;
- a disk that is full or refuses: an error, and nothing has changed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

Database = sqlite3.Connection
"""Of one thread, unless it was opened for any."""
DatabaseError = sqlite3.Error

_WAIT_S = 10.0
"""How long another process that writes just now is waited for."""
_NO_DATABASE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN)
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}

log = logging.getLogger(__name__)


class Schema(NamedTuple):
    """The tables of a file, and what becomes of those of before."""

    tables: str
    """Statements that create missing tables."""
    version: int = 1
    """Of another one nothing is understood."""
    upgrades: tuple[Callable[[Database, Path], None], ...] = ()
    """Each brings a file at that path up to date that an earlier release has left."""
    take_over: Callable[[Database, Path], None] | None = None
    """Fetches from a file that was put aside there what nobody can find out again."""


def open_database(path: Path, schema: Schema, wait_s: float = _WAIT_S) -> Database:
    """The database at `path` with these tables, created where missing; for any thread.

    DatabaseError: it is locked, or the disk is full. OSError: its folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open(path, schema, wait_s)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise  # it is as good as ever
        return begin_anew(path, error, schema, wait_s)


@contextlib.contextmanager
def reading(path: Path, wait_s: float = 5.0) -> Iterator[Database]:
    """The database at `path` for who only reads; it is neither made nor changed.

    DatabaseError: there is none, or it cannot be read just now.
    """
    where = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(where, timeout=wait_s, uri=True)) as database:
        yield database


def is_damage(error: BaseException) -> bool:
    """What is in the file cannot be read, and does not heal."""
    return _code_of(error) in _NO_DATABASE


def is_busy(error: BaseException) -> bool:
    """What is in the file cannot be read just now; it may be as good as ever."""
    return _code_of(error) in _BUSY


def errno_of(error: BaseException) -> int | None:
    """The system's number for what an error of SQLite's stands for; None: it is of SQLite alone."""
    return _ERRNO.get(_code_of(error))


def _code_of(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def begin_anew(path: Path, why: DatabaseError, schema: Schema, wait_s: float = _WAIT_S) -> Database:
    """A new database in the place of one that is put aside; all else as `open_database`."""
    aside = path.with_suffix(".broken")
    log.warning("%s cannot be read (%s): put aside as %s", path, why, aside.name)
    _put_aside(path, aside)
    database = _open(path, schema, wait_s)
    if schema.take_over is not None:
        schema.take_over(database, aside)
    return database


class StateFile:
    """One such file over its whole life. For one thread.

    Opened when it is first needed, and again after it was closed, deleted or put aside.
    DatabaseError, OSError from `database`: as `open_database`.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
        self._opened: tuple[Database, int] | None = None
        """And the file's inode."""
        self._readers: list[Callable[[], None]] = []

    def database(self) -> Database:
        """Open now."""
        if self._opened is None:
            database = open_database(self.path, self._schema)
            self._opened = database, self.path.stat().st_ino
        return self._opened[0]

    @property
    def exists(self) -> bool:
        """There is one, so that looking into it makes none."""
        return self._opened is not None or self.path.exists()

    @property
    def is_in_place(self) -> bool:
        """Nobody has removed or replaced it since it was opened."""
        if self._opened is None:
            return True
        try:
            return self.path.stat().st_ino == self._opened[1]
        except FileNotFoundError:
            return False

    def when_void(self, forget: Callable[[], None]) -> None:
        """Call this each time what was read of it does not hold any more."""
        self._readers.append(forget)

    def void(self) -> None:
        """What was read of it does not hold any more."""
        for forget in self._readers:
            forget()

    def close(self) -> None:
        """It is opened again when it is needed."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def notice_deletion(self) -> None:
        """Somebody may delete the file at any time: then begin a new one."""
        if not self.is_in_place:
            self.close()
            self.void()
            if not self.path.exists():  # SQLite would take the old log for that of the new one
                _remove_companions(self.path)

    def leave_damaged(self, why: DatabaseError) -> None:
        """What stands in it cannot be read: begin a new one. Errors as `open_database`."""
        self.close()
        self.void()
        begin_anew(self.path, why, self._schema).close()


def remove(path: Path) -> None:
    """Delete a database that nobody has open, with its log."""
    path.unlink(missing_ok=True)
    _remove_companions(path)


def _remove_companions(path: Path) -> None:
    for companion in ("-wal", "-shm"):
        path.with_name(path.name + companion).unlink(missing_ok=True)


def _put_aside(path: Path, aside: Path) -> None:
    """Move a database away with its log, which may have what was written last."""
    _remove_companions(aside)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    path.replace(aside)
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{path.name}-wal").replace(aside.with_name(f"{aside.name}-wal"))


def _open(path: Path, schema: Schema, wait_s: float) -> Database:
    database = sqlite3.connect(path, timeout=wait_s, check_same_thread=False)
    try:
        _log_ahead(database, wait_s)
        database.execute("PRAGMA synchronous = NORMAL")
        _check_version(database, schema.version)
        with contextlib.closing(database.executescript(schema.tables)):
            pass
        for upgrade in schema.upgrades:
            upgrade(database, path)
    except (sqlite3.Error, OSError):
        database.close()
        raise
    return database


def _log_ahead(database: Database, wait_s: float) -> None:
    """Switch to WAL. SQLite itself waits for nobody who does the same at that moment."""
    until = time.monotonic() + wait_s
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return


def _check_version(database: Database, version: int) -> None:
    """A new file is of this version from now on; a DatabaseError for another one's."""
    if _version_of(database) == version:
        return
    with database:
        database.execute("BEGIN IMMEDIATE")  # of several that open a new file one is the first
        found = _version_of(database)
        if found == version:
            return
        if found or database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            error = sqlite3.DatabaseError(
                f"its tables are of version {found}, and not of {version}"
            )
            error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
            raise error
        database.execute(f"PRAGMA user_version = {version:d}")


def _version_of(database: Database) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
