"""Any SQLite file of ours: how it is opened, waited for if locked, upgraded, replaced. No tables.

Each file is written by one program. The rules are the same for all files:

- locked by another process: waited for, then an error; the next use tries again;
- from an earlier version: upgraded if its schema can, else treated as damaged;
- damaged, or from a later version: put aside as `.broken` and replaced by a new one, with what the
  schema can take over;
- deleted or replaced: begun anew;
- disk full or not writable: an error, and nothing has changed.
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
"""For one thread, unless it was opened for any."""
DatabaseError = sqlite3.Error

_WAIT_S = 10.0
"""How long to wait for another process that is writing."""
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
    """The tables of a file, and how earlier ones are upgraded."""

    tables: str
    """Statements that create missing tables."""
    version: int = 1
    """Files of any other version are not read."""
    upgrades: tuple[Callable[[Database, Path], None], ...] = ()
    """Each upgrades the database at a path from an earlier release."""
    take_over: Callable[[Database, Path], None] | None = None
    """Copies from a file that was put aside what cannot be found out again."""


def open_database(path: Path, schema: Schema, wait_s: float = _WAIT_S) -> Database:
    """The database at `path` with these tables, created where missing; for any thread.

    DatabaseError: it is locked, or the disk is full. OSError: its folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open(path, schema, wait_s)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise  # the file is not damaged
        return _replace_damaged(path, error, schema, wait_s)


@contextlib.contextmanager
def reading(path: Path, wait_s: float = 5.0) -> Iterator[Database]:
    """The database at `path`, to be read only; it is neither made nor changed.

    DatabaseError: there is none, or it cannot be read at the moment.
    """
    where = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(where, timeout=wait_s, uri=True)) as database:
        yield database


def copy_to(path: Path, target: Path) -> None:
    """Copy the database at `path`, as of one moment, also while others write to it.

    DatabaseError: there is none, or it cannot be read at the moment.
    """
    with reading(path) as database, contextlib.closing(sqlite3.connect(target)) as copy:
        database.backup(copy)


def is_damage(error: BaseException) -> bool:
    """Whether an error means that the file is damaged for good."""
    return _code_of(error) in _NO_DATABASE


def is_busy(error: BaseException) -> bool:
    """Whether an error means that the file cannot be read at the moment."""
    return _code_of(error) in _BUSY


def errno_of(error: BaseException) -> int | None:
    """The errno that corresponds to an error of SQLite; None: none does."""
    return _ERRNO.get(_code_of(error))


def _code_of(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _replace_damaged(
    path: Path, why: DatabaseError, schema: Schema, wait_s: float = _WAIT_S
) -> Database:
    """Put a database aside and open a new one in its place. Raises as `open_database`."""
    aside = path.with_suffix(".broken")
    log.warning("%s cannot be read (%s): put aside as %s", path, why, aside.name)
    _put_aside(path, aside)
    database = _open(path, schema, wait_s)
    if schema.take_over is not None:
        schema.take_over(database, aside)
    return database


class StateFile:
    """A SQLite file that is opened when needed, also after a deletion or damage. For one thread.

    `database` raises as `open_database`.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
        self._opened: tuple[Database, int] | None = None
        """The database, and the inode of its file."""
        self._readers: list[Callable[[], None]] = []

    def database(self) -> Database:
        """The database, opened if it is not."""
        if self._opened is None:
            database = open_database(self.path, self._schema)
            self._opened = database, self.path.stat().st_ino
        return self._opened[0]

    @property
    def exists(self) -> bool:
        """Whether the file exists, so that reading makes none."""
        return self._opened is not None or self.path.exists()

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still the one that was opened."""
        if self._opened is None:
            return True
        try:
            return self.path.stat().st_ino == self._opened[1]
        except FileNotFoundError:
            return False

    def when_void(self, forget: Callable[[], None]) -> None:
        """Have `forget` called whenever values read from the file are no longer valid."""
        self._readers.append(forget)

    def void(self) -> None:
        """Values read from the file are no longer valid."""
        for forget in self._readers:
            forget()

    def close(self) -> None:
        """Close the database until it is needed again."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def notice_deletion(self) -> None:
        """Begin a new file if somebody has deleted or replaced it."""
        if not self.is_in_place:
            self.close()
            self.void()
            if not self.path.exists():  # SQLite would use the old log for the new file
                _remove_companions(self.path)

    def leave_damaged(self, why: DatabaseError) -> None:
        """Put the damaged file aside and begin a new one. Raises as `open_database`."""
        self.close()
        self.void()
        _replace_damaged(self.path, why, self._schema).close()


def remove(path: Path) -> None:
    """Delete a database that is not open, with its log."""
    path.unlink(missing_ok=True)
    _remove_companions(path)


def _remove_companions(path: Path) -> None:
    for companion in ("-wal", "-shm"):
        path.with_name(path.name + companion).unlink(missing_ok=True)


def _put_aside(path: Path, aside: Path) -> None:
    """Move a database away with its log, which may contain the latest changes."""
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
    """Switch to WAL. SQLite itself does not wait for another process that is doing the same."""
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
    """Give a new file this version. DatabaseError: the file has another one."""
    if _version_of(database) == version:
        return
    with database:
        database.execute(
            "BEGIN IMMEDIATE"
        )  # only the first of several that open a new file goes on
        found = _version_of(database)
        if found == version:
            return
        if found or database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            error = sqlite3.DatabaseError(f"its tables have version {found}, and not {version}")
            error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
            raise error
        database.execute(f"PRAGMA user_version = {version:d}")


def _version_of(database: Database) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
