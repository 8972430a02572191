"""Which rows of a file that others began are ktrdr's: tables in the ledger's file. Not the rows.

A row is recorded before it is written, by its start and a digest of its line, together with the
checksum of the file before the first of them. So a row is known to be ktrdr's only as long as it
is byte for byte what was written.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.sqlite_file import Database
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_text import read_rows

TABLES = """
CREATE TABLE IF NOT EXISTS shared_files (
    series TEXT PRIMARY KEY, at INTEGER, size INTEGER, checksum BLOB, torn BLOB, completed INTEGER
);
CREATE TABLE IF NOT EXISTS written_rows (
    series TEXT, piece INTEGER, rows BLOB, PRIMARY KEY (series, piece)
) WITHOUT ROWID;
"""
COLUMNS = {
    "shared_files": ("series", "at", "size", "checksum", "torn", "completed"),
    "written_rows": ("series", "piece", "rows"),
}
"""Those of each table."""
_ROW = np.dtype([("offset", "<u4"), ("digest", "<u8")])
"""A row in its piece: seconds from the piece's begin, and the digest of its line."""
_PIECE_BARS = 256
"""So many bars a piece has room for: what a single new row reads and writes is small."""
_BLOCK_BYTES = 1024 * 1024
_OF_SERIES = "SELECT at, size, checksum, torn, completed FROM shared_files WHERE series = ?"
_PIECES = "SELECT piece, rows FROM written_rows WHERE series = ? ORDER BY piece"
_PUT = "INSERT OR REPLACE INTO written_rows VALUES (?, ?, ?)"
_DELETE = "DELETE FROM written_rows WHERE series = ? AND piece = ?"
RowArray = NDArray[np.void]


class Before(NamedTuple):
    """A file as it was before ktrdr's first row."""

    at: int
    """When that row was written (UTC seconds)."""
    size: int
    """In bytes."""
    checksum: bytes
    """SHA-256 of all of them."""
    torn: bytes
    """Its last line, if that had no line end; else empty."""
    is_completed: bool
    """ktrdr has added a line end to that line."""


class WrittenPiece(NamedTuple):
    """Some of the rows that were written, in order."""

    starts: Int64Array
    """UTC seconds."""
    digests: NDArray[np.uint64]
    """Of their lines, as from `digests_of`."""


class WrittenRows:
    """The record of one series. For one thread, or one writer.

    `database`: the ledger; None: nothing is recorded. Calls raise DatabaseError.
    """

    def __init__(self, series: Series, database: Callable[[], Database] | None) -> None:
        self._series = series
        self._name = str(series)
        self._length_s = _PIECE_BARS * series.timeframe.length_s
        self._db = database
        self._pending: Sequence[int] = ()
        """The rows that were recorded last; it is not sure yet that they will be written."""

    def before(self) -> Before | None:
        """The file before ktrdr's first row; None: no row of ktrdr's is recorded."""
        if self._db is None:
            return None
        row = self._db().execute(_OF_SERIES, (self._name,)).fetchone()
        if row is None:
            return None
        at, size, checksum, torn, is_completed = row
        return Before(at, size, checksum, torn, bool(is_completed))

    def pieces(self) -> Iterator[WrittenPiece]:
        """All rows, in order of time, so many at a time that a file's part of them is small."""
        if self._db is not None:
            for piece, raw in self._db().execute(_PIECES, (self._name,)).fetchall():
                rows = np.frombuffer(raw, _ROW)
                starts = rows["offset"].astype(np.int64) + piece * self._length_s
                yield WrittenPiece(starts, rows["digest"].astype(np.uint64))

    # Recording.

    def note(self, file: BarFile, text: bytes) -> None:
        """Record rows that are about to be written to the file, as these lines."""
        if self._db is None or not (file.layout.is_whole or file.layout.has_header):
            return  # without a header it has nothing of others
        if not file.layout.is_whole:
            text = text.removeprefix(file.layout.newline)
        starts = read_rows(self._series.file_name, file.layout, text, file.timeframe).starts
        rows = np.empty(len(starts), _ROW)
        pieces, rows["offset"] = np.divmod(starts, self._length_s)
        rows["digest"] = digests_of(text.splitlines(keepends=True))
        before = self._new_before(file)
        with self._db() as database:
            if before is not None:
                self._keep_before(database, before)
            for piece in np.unique(pieces).tolist():
                self._merge(database, piece, rows[pieces == piece])
        self._pending = starts.tolist()

    def note_completed(self, file: BarFile, *, is_done: bool = True) -> None:
        """Record that the last line of the file is about to get a line end, or got none."""
        if self._db is None:
            return
        before = self._new_before(file) or self.before()
        assert before is not None
        with self._db() as database:
            self._keep_before(database, before._replace(is_completed=is_done))

    def withdraw(self) -> None:
        """Remove the rows from the record that were noted last: they were not written."""
        if self._db is None or not self._pending:
            return
        gone = np.array(self._pending, np.int64)
        pieces, offsets = np.divmod(gone, self._length_s)
        with self._db() as database:
            for piece in np.unique(pieces).tolist():
                kept = self._piece(database, piece)
                kept = kept[~np.isin(kept["offset"], offsets[pieces == piece])]
                self._put(database, piece, kept)
        self._pending = ()

    def disown(self, raw: bytes) -> None:
        """Remove from the record what another program has written too, as these lines."""
        if self._db is None or self.before() is None:
            return
        theirs = digests_of(raw.splitlines(keepends=True))
        with self._db() as database:
            for piece, rows in database.execute(_PIECES, (self._name,)).fetchall():
                known = np.frombuffer(rows, _ROW)
                kept = known[~np.isin(known["digest"], theirs)]
                if len(kept) < len(known):
                    self._put(database, piece, kept)

    def forget(self) -> None:
        """Remove the record: the file has no row of others, or none of ktrdr's."""
        if self._db is not None:
            with self._db() as database:
                for table in COLUMNS:
                    statement = f"DELETE FROM {table} WHERE series = ?"  # noqa: S608  fixed names
                    database.execute(statement, (self._name,))

    def _new_before(self, file: BarFile) -> Before | None:
        """The file as it is, if ktrdr has written nothing to it yet; None: it has."""
        if self._has_rows() or ((known := self.before()) is not None and known.is_completed):
            return None
        torn, is_completed = file.end.torn, False
        if not file.layout.is_whole:  # rows come behind its header, and a line end before them
            torn, is_completed = os.pread(file.descriptor, file.layout.begin, 0), True
        return Before(int(time.time()), file.size, checksum_of(file), torn, is_completed)

    def _has_rows(self) -> bool:
        assert self._db is not None
        query = "SELECT 1 FROM written_rows WHERE series = ? LIMIT 1"
        return self._db().execute(query, (self._name,)).fetchone() is not None

    def _keep_before(self, database: Database, before: Before) -> None:
        row = (self._name, *before[:4], int(before.is_completed))
        database.execute("INSERT OR REPLACE INTO shared_files VALUES (?, ?, ?, ?, ?, ?)", row)

    def _merge(self, database: Database, piece: int, rows: RowArray) -> None:
        """Add rows to a piece; one of the same start is replaced."""
        known = self._piece(database, piece)
        known = known[~np.isin(known["offset"], rows["offset"])]
        self._put(database, piece, np.sort(np.concatenate([known, rows]), order="offset"))

    def _piece(self, database: Database, piece: int) -> RowArray:
        query = "SELECT rows FROM written_rows WHERE series = ? AND piece = ?"
        row = database.execute(query, (self._name, piece)).fetchone()
        return np.frombuffer(row[0] if row else b"", _ROW)

    def _put(self, database: Database, piece: int, rows: RowArray) -> None:
        if len(rows):
            database.execute(_PUT, (self._name, piece, rows.tobytes()))
        else:
            database.execute(_DELETE, (self._name, piece))


def digests_of(lines: Sequence[bytes]) -> NDArray[np.uint64]:
    """A digest of each line, with its end: of 64 bits, so that no two lines are mistaken."""
    found = b"".join([hashlib.blake2b(line, digest_size=8).digest() for line in lines])
    return np.frombuffer(found, "<u8").astype(np.uint64)


def checksum_of(file: BarFile) -> bytes:
    """SHA-256 of the file as it was when it was opened."""
    found, at = hashlib.sha256(), 0
    while at < file.size:
        block = os.pread(file.descriptor, min(_BLOCK_BYTES, file.size - at), at)
        if not block:
            break  # it became shorter, so that nothing is written
        found.update(block)
        at += len(block)
    return found.digest()
