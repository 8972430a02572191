"""The index of which bars each file has, as last read: a table in the ledger's file. Not the bars.

A file whose size, modification time and inode are unchanged is not read again, unless it was
written to within one clock tick before it was read. Without the index all files are read again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ktrdr.market.sessions import Int64Array
from ktrdr.sqlite_file import Database, DatabaseError, Schema, StateFile, reading, remove
from ktrdr.store.file_key import FileKey

_TABLES = """
CREATE TABLE IF NOT EXISTS file_index (
    name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, settled INTEGER,
    first INTEGER, last INTEGER, since INTEGER, verified INTEGER, runs BLOB, incomplete BLOB
) WITHOUT ROWID;
"""
_WITHOUT_RUNS = "name, size, mtime_ns, inode, settled, first, last, since, verified"
_ALL = f"SELECT {_WITHOUT_RUNS}, incomplete FROM file_index"  # noqa: S608  it is fixed
_PUT = (
    f"INSERT OR REPLACE INTO file_index ({_WITHOUT_RUNS}, incomplete, runs) "  # noqa: S608  as above
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RUNS = "SELECT runs FROM file_index WHERE name = ?"
_TOGETHER = 256
"""How many files are recorded in one transaction."""
_FAR = 2**62
_OF_BEFORE, _VERSION_OF_BEFORE = "index.sqlite", 2
"""The name and the version of the separate file in which earlier releases had the index."""
_FINE_TICK_NS, _COARSE_TICK_NS = 20_000_000, 2_000_000_000
"""Changes this close may get the same time: on Linux, and on file systems of whole seconds."""


class IndexEntry(NamedTuple):
    """What is known of a file since it was last read."""

    key: FileKey
    is_settled: bool
    """No other content of the file can have this key."""
    first: int | None
    last: int | None
    """Starts of its first and last row, UTC seconds."""
    since: int
    """From then on its bars are known."""
    is_verified: bool
    """Every row was read: they are in order, without duplicates."""
    incomplete: bytes = b""
    """The rows that lack a value, as runs; they are among no others."""

    def is_current(self, key: FileKey | None) -> bool:
        """The file, which has this key now, is certainly unchanged."""
        return self.key == key and self.is_settled


def is_settled(key: FileKey, read_ns: int) -> bool:
    """A file that was read then (UTC, in ns) cannot change and keep this key."""
    tick_ns = _FINE_TICK_NS if key[1] % 1_000_000_000 else _COARSE_TICK_NS
    return read_ns - key[1] > tick_ns


class CoverageIndex:
    """The index of one store, for one thread. Calls raise DatabaseError, OSError as `StateFile`."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._known: dict[str, IndexEntry] | None = None
        self._unsaved: dict[str, tuple[Any, ...]] = {}
        self._gone: set[str] = set()
        """Names to delete at the next flush."""
        file.when_void(self._forget_all)

    def known(self) -> dict[str, IndexEntry]:
        """The entries of all files, by name."""
        if self._known is None:
            rows = self._file.database().execute(_ALL).fetchall() if self._file.exists else []
            self._known = {row[0]: _to_known(row) for row in rows if row[0] not in self._gone}
        return self._known

    def starts(self, name: str, since: int, step_s: int) -> Int64Array | None:
        """The starts of a file's bars from `since` on, `step_s` apart; None: they are lost."""
        runs = self._runs(name)
        return None if runs is None else from_runs(runs, since, step_s)

    def keep(self, name: str, known: IndexEntry, starts: Int64Array, step_s: int) -> None:
        """Record an entry; other processes see it after `flush`."""
        self._keep(name, known, to_runs(starts, step_s))

    def extend(self, name: str, key: FileKey, starts: Int64Array, new: int, step_s: int) -> None:
        """Record that rows with these starts were written; the file has this key now.

        `starts` ascend, and so many of them are `new`; where these do not fit what is known, the
        file is to be read again. Those of rows that lack a value were not written. The entry was
        settled before, and no other content can have the new key.
        """
        known, runs = self.known().get(name), self._runs(name)
        if known is not None and known.incomplete:
            starts = np.setdiff1d(starts, from_runs(known.incomplete, -_FAR, step_s))
        if known is None or runs is None or not len(starts) or starts[0] < known.since:
            self.forget([name])
            return
        joined, added = with_starts(runs, starts, step_s)
        if added != new:
            self.forget([name])
            return
        first, last = int(starts[0]), int(starts[-1])
        self._keep(
            name,
            known._replace(
                key=key,
                first=first if known.first is None else min(first, known.first),
                last=last if known.last is None else max(last, known.last),
            ),
            joined,
        )

    def _keep(self, name: str, known: IndexEntry, runs: bytes) -> None:
        self.known()[name] = known
        self._gone.discard(name)
        self._unsaved[name] = (name, *known.key, *known[1:], runs)
        if len(self._unsaved) >= _TOGETHER:
            self.flush()

    def _runs(self, name: str) -> bytes | None:
        if name not in self.known():
            return None
        if name in self._unsaved:
            return bytes(self._unsaved[name][-1])
        row = self._file.database().execute(_RUNS, (name,)).fetchone()
        return row[0] if row else None

    def forget(self, names: Iterable[str]) -> None:
        """Remove the entries of files that have changed. Touches no disk, and cannot fail.

        Other processes see it after `flush`; until then they see entries with outdated keys.
        """
        for name in names:
            self._gone.add(name)
            self._unsaved.pop(name, None)
            if self._known is not None:
                self._known.pop(name, None)

    def flush(self) -> None:
        """Publish the entries to other processes."""
        self._execute("DELETE FROM file_index WHERE name = ?", [(name,) for name in self._gone])
        self._gone = set()
        self._execute(_PUT, list(self._unsaved.values()))
        self._unsaved = {}

    def close(self) -> None:
        """Flush, and read the index again when needed; its file stays open."""
        self.flush()
        self._forget_all()

    def _execute(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            with self._file.database() as database:
                database.executemany(statement, rows)

    def _forget_all(self) -> None:
        self._known = None
        self._unsaved = {}
        self._gone = set()


def find_known(path: Path, name: str) -> IndexEntry | None:
    """The entry of one file; None: there is none, or the index cannot be read."""
    try:
        with reading(path) as database:
            row = database.execute(f"{_ALL} WHERE name = ?", (name,)).fetchone()
    except DatabaseError:
        return None
    return _to_known(row) if row else None


def _to_known(row: tuple[Any, ...]) -> IndexEntry:
    _, *key, settled, first, last, since, verified, incomplete = row
    return IndexEntry(
        (key[0], key[1], key[2]), bool(settled), first, last, since, bool(verified), incomplete
    )


def to_runs(starts: Int64Array, step_s: int) -> bytes:
    """The starts as runs with steps of `step_s`: the first start and the count of each."""
    if not len(starts):
        return b""
    begins = np.ones(len(starts) + 1, np.bool_)  # of a run; and a sentinel
    np.not_equal(starts[1:] - starts[:-1], step_s, out=begins[1:-1])
    places = begins.nonzero()[0]
    runs = np.empty((len(places) - 1, 2), "<i8")
    runs[:, 0] = starts[places[:-1]]
    runs[:, 1] = places[1:] - places[:-1]
    return runs.tobytes()


def joined_runs(before: bytes, after: bytes, step_s: int) -> bytes:
    """Two sequences of runs as one; the last and the first become one run if they touch."""
    if not before or not after:
        return before + after
    last, first = (np.frombuffer(runs, "<i8") for runs in (before[-16:], after[:16]))
    if last[0] + last[1] * step_s != first[0]:
        return before + after
    middle = np.array([last[0], last[1] + first[1]], "<i8").tobytes()
    return before[:-16] + middle + after[16:]


def with_starts(runs: bytes, starts: Int64Array, step_s: int) -> tuple[bytes, int]:
    """The runs with these starts added, which ascend; and how many of them are new."""
    before = _clipped(runs, None, int(starts[0]), step_s)
    among = from_runs(_clipped(runs, None, int(starts[-1]) + 1, step_s), int(starts[0]), step_s)
    after = _clipped(runs, int(starts[-1]) + 1, None, step_s)
    together = np.union1d(among, starts)
    joined = joined_runs(before, to_runs(together, step_s), step_s)
    return joined_runs(joined, after, step_s), len(together) - len(among)


def _clipped(runs: bytes, since: int | None, until: int | None, step_s: int) -> bytes:
    """The parts of runs that start in `[since, until)`; None: no bound."""
    firsts, counts = np.frombuffer(runs, "<i8").reshape(-1, 2).T
    if until is not None:
        counts = np.minimum(counts, -((firsts - until) // step_s))
    if since is not None:
        skipped = np.maximum(0, -((firsts - since) // step_s))
        firsts, counts = firsts + skipped * step_s, counts - skipped
    return np.stack((firsts, counts), axis=1)[counts > 0].tobytes()


def from_runs(runs: bytes, since: int, step_s: int) -> Int64Array:
    """The starts from `since` on."""
    firsts, counts = np.frombuffer(_clipped(runs, since, None, step_s), "<i8").reshape(-1, 2).T
    places = np.cumsum(counts) - counts
    starts: Int64Array = np.arange(int(counts.sum())) * step_s
    starts += np.repeat(firsts - step_s * places, counts)
    return starts


def _take_over_index(database: Database, path: Path) -> None:
    """Take over the index of an earlier release from its separate file, and remove that."""
    before = path.with_name(_OF_BEFORE)
    if not before.exists():
        return
    with contextlib.suppress(DatabaseError):  # then files are read again
        database.execute("ATTACH ? AS before", (str(before),))
        try:
            if database.execute("PRAGMA before.user_version").fetchone()[0] == _VERSION_OF_BEFORE:
                with database:
                    database.execute(
                        f"INSERT OR IGNORE INTO file_index ({_WITHOUT_RUNS}, runs, incomplete) "  # noqa: S608  it is fixed
                        "SELECT *, x'' FROM before.files WHERE verified"
                    )
        finally:
            database.execute("DETACH before")
    remove(before)


def _add_incomplete(database: Database, _path: Path) -> None:
    """Before rows that lack a value were left out, they were among the others, if not verified."""
    query = "SELECT 1 FROM pragma_table_info('file_index') WHERE name = 'incomplete'"
    if database.execute(query).fetchone():
        return
    with database:
        database.execute("BEGIN IMMEDIATE")
        if not database.execute(query).fetchone():
            database.execute("DELETE FROM file_index WHERE NOT verified")
            database.execute("ALTER TABLE file_index ADD COLUMN incomplete BLOB DEFAULT x''")


INDEX = Schema(_TABLES, 3, (_add_incomplete, _take_over_index))
"""The index alone; its version is that of the ledger, in whose file it is."""
