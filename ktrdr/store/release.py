"""Takes exactly those rows out of a file again that ktrdr wrote into it. Prints nothing.

A row is taken out only if it is byte for byte what was written.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.store.atomic_write import Edit, keep
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_store import CsvStore, place_for_old
from ktrdr.store.edits import is_being_written
from ktrdr.store.file_errors import TRY_AGAIN, unwritable
from ktrdr.store.series_writer import SeriesWriter, kept_busy, refuse_shared
from ktrdr.store.written_rows import Before, WrittenPiece, WrittenRows, checksum_of, digests_of

_TRIES = 20
_LINE_S = 0.05
"""How long another program is given to end its line, each time."""
_BLOCK_BYTES = 1024 * 1024
_LINE_END_BYTES = 2


class OwnRange(NamedTuple):
    """Rows of ktrdr's that follow each other in a file."""

    first: int
    last: int
    """Starts of the first and the last of them, UTC seconds."""
    rows: int


class OwnRows(NamedTuple):
    """The rows of a file that ktrdr wrote."""

    ranges: list[OwnRange]
    """Those that are byte for byte as they were written, oldest first."""
    edits: list[Edit]
    """Which take these out, one for each range."""
    edited: list[int]
    """Starts of rows that others have changed since (UTC seconds)."""

    @property
    def rows(self) -> int:
        """How many rows are as they were written."""
        return sum(one.rows for one in self.ranges)


class Released(NamedTuple):
    """What a release did."""

    taken: OwnRows
    """The rows that were taken out; and those that stay, since others have changed them."""
    is_as_before: bool
    """The file is byte for byte what it was before ktrdr's first row."""
    kept: Path | None
    """Where the file with these rows is kept; None: nothing had to be changed."""


def own_rows(file: BarFile, written: WrittenRows) -> OwnRows:
    """The rows of an open file that ktrdr wrote. MalformedFile: it cannot be read."""
    own = OwnRows([], [], [])
    for piece in written.pieces():
        _add_piece(own, file, piece)
    return own


def _add_piece(own: OwnRows, file: BarFile, piece: WrittenPiece) -> None:
    rows, begin = file.rows_from(int(piece.starts[0]), int(piece.starts[-1]) + 1)
    places = np.flatnonzero(np.isin(rows.starts, piece.starts))
    begins, ends = rows.offsets[:-1][places].tolist(), rows.offsets[1:][places].tolist()
    found = digests_of([rows.raw[at:end] for at, end in zip(begins, ends, strict=True)])
    is_same = found == piece.digests[np.searchsorted(piece.starts, rows.starts[places])]
    own.edited.extend(rows.starts[places[~is_same]].tolist())
    for run in _runs(places[is_same]):
        at, end = int(rows.offsets[run[0]]) + begin, int(rows.offsets[run[-1] + 1]) + begin
        new = OwnRange(int(rows.starts[run[0]]), int(rows.starts[run[-1]]), len(run))
        if own.edits and own.edits[-1].end == at:
            at = own.edits.pop().start
            before = own.ranges.pop()
            new = OwnRange(before.first, new.last, before.rows + new.rows)
        own.edits.append(Edit(at, end, b""))
        own.ranges.append(new)


def _runs(places: Int64Array) -> list[Int64Array]:
    """Places that follow each other, together."""
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [run for run in runs if len(run)]


def release(store: CsvStore, series: Series, stamp: str) -> Released | None:
    """Take ktrdr's rows out of a file, and forget which these were; None: none are recorded.

    The file is replaced in one step, and the old one is kept under a name with this `stamp`. Rows
    of others stay byte for byte, also those that were added or changed since. If all of them are
    as they were, so is the file, to the last line end. `store` has an index.

    StoreUnwritable, MalformedFile, FileNotFoundError: nothing was changed.
    """
    path = store.path(series)
    try:
        with store.writing(series) as writer:
            before = writer.written.before()
            if before is None:
                return None
            writer.remove_unfinished()
            writer.bring_over()
            released = _take_out(store, series, writer, before, stamp)
            writer.written.forget()
            return released
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unwritable(path, error, TRY_AGAIN) from error


def _take_out(
    store: CsvStore, series: Series, writer: SeriesWriter, before: Before, stamp: str
) -> Released:
    path = store.path(series)
    is_written = False
    for _ in range(_TRIES):
        with BarFile(path, series.timeframe) as file:
            refuse_shared(file, store.folder, series)
            is_written = is_being_written(file)
            if is_written:
                time.sleep(_LINE_S)
                continue
            own = own_rows(file, writer.written)
            edits = _restoring(file, own.edits, before)
            if not edits:
                return Released(own, checksum_of(file) == before.checksum, None)
            kept = _replace(store, series, writer, file, edits, stamp)
        if kept is not None:
            with BarFile(path, series.timeframe) as file:
                return Released(own, checksum_of(file) == before.checksum, kept)
    raise kept_busy(path, "is writing its last line" if is_written else "keeps writing to it")


def _replace(
    store: CsvStore,
    series: Series,
    writer: SeriesWriter,
    file: BarFile,
    edits: list[Edit],
    stamp: str,
) -> Path | None:
    """Replace the file, and keep the old one; returns where. None: it has changed."""
    kept = place_for_old(store.folder, series, stamp)
    keep(Path(os.path.realpath(file.path)), kept)
    try:
        is_done = writer.rewrite(file, edits, file.size) is not None
    except OSError:
        if file.path.stat().st_ino == file.key[2]:  # it was not replaced yet
            kept.unlink()
        raise
    if is_done:
        return kept
    kept.unlink()
    return None


def _restoring(file: BarFile, edits: list[Edit], before: Before) -> list[Edit]:
    """The edits, and at the end what gives back a last line without a line end.

    That is: without the line end that ktrdr added, or with the half line that it gave up; but only
    if the file is then what it was before, byte for byte.
    """
    if not before.torn:
        return edits
    size = file.size
    spans = list(_left(edits, size))
    checksum, tail = _checksum_but_tail(file, spans)
    end = spans[-1][1] if spans else 0
    for ending in (b"\r\n", b"\n"):
        is_there = before.is_completed and tail.endswith(ending)
        if is_there and _is_sum(checksum, tail[: -len(ending)], before):
            others = [edit for edit in edits if edit.end <= end]
            return [*others, Edit(end - len(ending), size, b"")]
    if _is_sum(checksum, tail + before.torn, before):
        return [*edits, Edit(size, size, before.torn)]
    return edits


def _is_sum(checksum: hashlib._Hash, tail: bytes, before: Before) -> bool:
    whole = checksum.copy()
    whole.update(tail)
    return whole.digest() == before.checksum


def _left(edits: Iterable[Edit], size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file of this size that these edits leave."""
    at = 0
    for edit in edits:
        if at < edit.start:
            yield at, edit.start
        at = edit.end
    if at < size:
        yield at, size


def _checksum_but_tail(file: BarFile, spans: list[tuple[int, int]]) -> tuple[hashlib._Hash, bytes]:
    """The checksum of these parts but for the last bytes, and these."""
    found, tail = hashlib.sha256(), b""
    for start, end in spans:
        for at in range(start, end, _BLOCK_BYTES):
            tail += os.pread(file.descriptor, min(_BLOCK_BYTES, end - at), at)
            found.update(tail[:-_LINE_END_BYTES])
            tail = tail[-_LINE_END_BYTES:]
    return found, tail
