"""Which bars each file had when it was looked at last: SQLite beside the ledger, made anew at will.

A file with the same size, time of change and inode is the same file: a look at it costs no more
than that. What was written to within the clock's tick before it was looked at is looked at again.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ktrdr.market.sessions import Int64Array
from ktrdr.sqlite_file import open_database
from ktrdr.store.bar_file import FileKey

log = logging.getLogger(__name__)

_VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, settled INTEGER,
    first INTEGER, last INTEGER, since INTEGER, verified INTEGER, runs BLOB
) WITHOUT ROWID;
"""
_ALL = "SELECT name, size, mtime_ns, inode, settled, first, last, since, verified FROM files"
_PUT = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TOGETHER = 256
"""Files that are written of in one go."""
_LOST_S = 300.0
"""Where the index cannot be kept, that is tried again after so long."""
_FINE_TICK_NS, _COARSE_TICK_NS = 20_000_000, 2_000_000_000
"""Between two changes that get the same time: Linux' clock, and file systems of whole seconds."""


class Known(NamedTuple):
    """What was found in a file."""

    key: FileKey
    is_settled: bool
    """A file that has this key is the one that was looked at: nothing else can have it."""
    first: int | None
    last: int | None
    """Starts of its first and last row, UTC seconds."""
    since: int
    """From then on its bars are known."""
    is_verified: bool
    """Every row was looked at: they are in order, and each is there once."""


def is_settled(key: FileKey, looked_ns: int) -> bool:
    """A file that was looked at then (UTC, in ns) cannot change any more and keep this key."""
    tick_ns = _FINE_TICK_NS if key[1] % 1_000_000_000 else _COARSE_TICK_NS
    return looked_ns - key[1] > tick_ns


class CoverageIndex:
    """Of one store. For one thread. Where it cannot be kept, every look is a first one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._known: dict[str, Known] | None = None
        self._unsaved: dict[str, tuple[Any, ...]] = {}
        self._lost_until = 0.0

    def known(self) -> dict[str, Known]:
        """Every file's, by its name."""
        if self._known is None:
            self._known = {}
            try:
                if self._path.exists():
                    self._load(self._known)
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
        return self._known

    def starts(self, name: str, since: int, step_s: int) -> Int64Array | None:
        """The starts of a file's bars from then on, `step_s` apart; None: they are lost."""
        runs = self._runs(name)
        return None if runs is None else from_runs(runs, since, step_s)

    def keep(self, name: str, known: Known, starts: Int64Array, step_s: int) -> None:
        """Remember what was found; for others to see after `flush`."""
        self._keep(name, known, to_runs(starts, step_s))

    def extend(self, name: str, key: FileKey, starts: Int64Array, step_s: int) -> None:
        """Rows with these starts were written behind the last one; the file has this key now.

        Nothing else can have it, and it was settled before.
        """
        known, runs = self.known().get(name), self._runs(name)
        if known is None or runs is None:
            self.forget([name])
            return
        first = known.first if known.first is not None else int(starts[0])
        new = Known(key, True, first, int(starts[-1]), known.since, known.is_verified)
        joined = joined_runs(runs, to_runs(starts, step_s), step_s)
        self._keep(name, new, joined)

    def _keep(self, name: str, known: Known, runs: bytes) -> None:
        self.known()[name] = known
        self._unsaved[name] = (name, *known.key, *known[1:], runs)
        if len(self._unsaved) >= _TOGETHER:
            self.flush()

    def _runs(self, name: str) -> bytes | None:
        if name not in self.known():
            return None
        if name in self._unsaved:
            return bytes(self._unsaved[name][-1])
        try:
            found = self._database().execute("SELECT runs FROM files WHERE name = ?", (name,))
            row = found.fetchone()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return None
        return row[0] if row else None

    def forget(self, names: Iterable[str]) -> None:
        """They are to be looked at anew."""
        gone = [name for name in names if self.known().pop(name, None) is not None]
        for name in gone:
            self._unsaved.pop(name, None)
        self._execute("DELETE FROM files WHERE name = ?", [(name,) for name in gone])

    def flush(self) -> None:
        """Let others see what was found."""
        unsaved, self._unsaved = self._unsaved, {}
        self._execute(_PUT, list(unsaved.values()))

    def close(self) -> None:
        """It is opened again when it is needed."""
        self.flush()
        self._drop()

    def _drop(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = self._known = None
        self._unsaved = {}

    def _load(self, known: dict[str, Known]) -> None:
        for row in self._database().execute(_ALL):
            known[row[0]] = _to_known(row)

    def _database(self) -> sqlite3.Connection:
        if time.monotonic() < self._lost_until:
            raise sqlite3.OperationalError("given up for a while")
        if self._db is not None and not self._path.exists():
            self._drop()  # somebody has deleted it
        if self._db is None:
            self._db = open_database(self._path, _TABLES, _VERSION)
        return self._db

    def _execute(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        try:
            database = self._database()
            with database:
                database.executemany(statement, rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if time.monotonic() >= self._lost_until:
            log.warning("%s: %s: files are looked at anew", self._path, error)
            self._lost_until = time.monotonic() + _LOST_S
        self._drop()
        self._known = {}


def find_known(path: Path, name: str) -> Known | None:
    """What an index says of one file, to who only reads; None: nothing, or it cannot be read."""
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(database):
            row = database.execute(f"{_ALL} WHERE name = ?", (name,)).fetchone()
    except sqlite3.Error:
        return None
    return _to_known(row) if row else None


def _to_known(row: tuple[Any, ...]) -> Known:
    _, *key, settled, first, last, since, verified = row
    return Known((key[0], key[1], key[2]), bool(settled), first, last, since, bool(verified))


def to_runs(starts: Int64Array, step_s: int) -> bytes:
    """Starts as runs of neighbours, `step_s` apart: first and count of each."""
    if not len(starts):
        return b""
    begins = np.ones(len(starts) + 1, np.bool_)  # a run; and who comes after the last one
    np.not_equal(starts[1:] - starts[:-1], step_s, out=begins[1:-1])
    places = begins.nonzero()[0]
    runs = np.empty((len(places) - 1, 2), "<i8")
    runs[:, 0] = starts[places[:-1]]
    runs[:, 1] = places[1:] - places[:-1]
    return runs.tobytes()


def joined_runs(before: bytes, after: bytes, step_s: int) -> bytes:
    """Runs that follow each other; the last and the first become one where they touch."""
    if not before or not after:
        return before + after
    last, first = (np.frombuffer(runs, "<i8") for runs in (before[-16:], after[:16]))
    if last[0] + last[1] * step_s != first[0]:
        return before + after
    middle = np.array([last[0], last[1] + first[1]], "<i8").tobytes()
    return before[:-16] + middle + after[16:]


def from_runs(runs: bytes, since: int, step_s: int) -> Int64Array:
    """The starts from `since` on."""
    firsts, counts = np.frombuffer(runs, "<i8").reshape(-1, 2).T
    late = firsts + counts * step_s > since
    firsts, counts = firsts[late], counts[late]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(firsts, counts) + step_s * within
    chosen: Int64Array = starts[starts >= since]
    return chosen
