"""A folder of bar files, `SYMBOL_TIMEFRAME.csv` each. Which bars are missing is not known here."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np

from ktrdr.errors import KtrdrError, MalformedFile, StoreUnwritable, WrongSource
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series, parse_series
from ktrdr.market.sessions import Int64Array
from ktrdr.store.atomic_write import (
    Edit,
    append,
    clear_leftovers,
    keep,
    move,
    rewrite,
    take_after,
    write_new,
    write_whole,
)
from ktrdr.store.bar_file import BarFile, End, FileKey, key_of
from ktrdr.store.csv_text import HEADER, Rows
from ktrdr.store.edits import edits_for, is_behind, lacks_only_its_end, lines
from ktrdr.store.entries import read_entries
from ktrdr.store.file_errors import unwritable
from ktrdr.store.index import CoverageIndex, Known, find_known, is_settled
from ktrdr.store.interface import Scan, Seen
from ktrdr.store.lock import LockBusy, WriteLock, held, left_unfinished
from ktrdr.store.source import OURS, source_of

_LOCK_TIMEOUT_S = 5.0
_TRIES = 20
_FAR = 2**62


class CsvStore:
    """Every write extends a file or replaces it whole, or leaves it as it was.

    One writer at a time per file, between processes too; readers need no lock. With `indexed` it
    remembers what it has seen in `.ktrdr/index.sqlite`, and is for one thread then. `like`: a store
    after whose files those without rows spell their times.
    """

    def __init__(
        self, folder: Path, *, indexed: bool = False, like: CsvStore | None = None
    ) -> None:
        self.folder = folder
        self._like = like
        self._index_path = folder / OURS / "index.sqlite"
        self._locks = folder / OURS / "locks"
        self._index = CoverageIndex(self._index_path) if indexed else None

    def __repr__(self) -> str:
        return f"CsvStore({str(self.folder)!r})"

    # Whose it is.

    def claim(self, source: str) -> None:
        """Make this a store of `live` or `simulated` bars, if it is none yet.

        WrongSource when it is a store of the other kind; nothing is changed then.
        """
        owner = self.source()
        if owner == source:
            return
        if owner is not None:
            raise WrongSource(
                f"the store {self.folder} holds {owner} bars, and the gateway is {source}",
                hint="set KTRDR_DATA_DIR to another folder, or IB_HOST to the right gateway; then "
                "./scripts/up",
            )
        with _reported(self.folder):
            (self.folder / OURS).mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / OURS / "source", [f"{source}\n".encode()])

    def source(self) -> str | None:
        """`live` or `simulated`; None for a store that nothing was written to."""
        return source_of(self.folder)

    # What is there.

    def scan(self) -> Scan:
        """Every series of the store, and which of the files changed since they were looked at."""
        known = self._index.known() if self._index else {}
        found, blocked, strange = read_entries(self.folder)
        changed = []
        for series, key in found.items():
            seen = known.get(series.file_name)
            if seen is None or seen.key != key or not seen.is_settled:
                changed.append(series)
        return Scan(found, changed, strange, blocked)

    def path(self, series: Series) -> Path:
        """Where the series' file is, or would be."""
        return self.folder / series.file_name

    def key(self, series: Series) -> FileKey | None:
        """Changes when the file does; None when there is no file."""
        try:
            return key_of(self.path(series).stat())
        except FileNotFoundError:
            return None

    def look(self, series: Series, since: int) -> Seen:
        """Which bars the series has from `since` on; earlier ones may be among them.

        MalformedFile names the line; FileNotFoundError: there is no such file.
        """
        key = self.key(series)
        if key is None:
            raise FileNotFoundError(self.path(series))
        known = self._known(series)
        if known is not None and known.key == key and known.is_settled and known.since <= since:
            starts = self._indexed_starts(series, since)
            if starts is not None:
                begin = _known_from(known.first, since)
                return Seen(key, known.first, known.last, begin, starts, known.is_verified)
        return self._look_anew(series, since)

    def verify(self, series: Series) -> Seen:
        """The same, after a look at every row: each can be read, and they are in order."""
        looked_ns = time.time_ns()
        with self._open(series) as file:
            starts = file.starts()
            key = file.key
        first, last = (int(starts[0]), int(starts[-1])) if len(starts) else (None, None)
        begin = _known_from(first, -_FAR)
        seen = Seen(key, first, last, begin, starts, is_verified=True)
        self._remember(series, seen, looked_ns)
        return seen

    def was_verified(self, series: Series) -> bool:
        """Every row was looked at since it changed last, by this process or by another one."""
        name, key = series.file_name, self.key(series)
        known = self._known(series) if self._index else find_known(self._index_path, name)
        if known is None or known.key != key:
            return False
        return known.is_settled and known.is_verified

    def rows(self, series: Series, start: int = -_FAR, end: int = _FAR) -> Rows:
        """The rows of the bars that start in `[start, end)`. MalformedFile, FileNotFoundError."""
        with self._open(series) as file:
            return file.rows(start, end)

    def nearest(self, series: Series, start: int, end: int) -> int | None:
        """The start of the bar nearest to `[start, end)` and outside it; None: there is none."""
        with self._open(series) as file:
            return file.nearest(start, end)

    def _open(self, series: Series, *, writable: bool = False) -> BarFile:
        return BarFile(self.path(series), series.timeframe, writable=writable)

    def _look_anew(self, series: Series, since: int) -> Seen:
        looked_ns = time.time_ns()
        with self._open(series) as file:
            first = file.first
            starts = file.rows(since, _FAR).starts
            last = int(starts[-1]) if len(starts) else file.end.last
            key = file.key
        begin = _known_from(first, since)
        seen = Seen(key, first, last, begin, starts, is_verified=False)
        self._remember(series, seen, looked_ns)
        return seen

    # What is written.

    def create(self, series: Series) -> None:
        """An empty series, unless there is one."""
        path = self.path(series)
        with _reported(path), contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new(path, f"{HEADER}\n".encode())

    def add(self, series: Series, bars: Iterable[Bar], *, correct: bool = False) -> int:
        """Put bars into the series' file, where it has none of that start; how many were new.

        Rows that stand there stay byte for byte, unless they are to be corrected. StoreUnwritable:
        the disk refused, and the file is as it was; or wholly as it should be, where only the wait
        until its name is on the disk has failed. MalformedFile: it cannot be read, and is left as
        it is.
        """
        new = sorted({bar.start: bar for bar in bars}.values())
        if not new:
            return 0
        path = self.path(series)
        with _reported(path), self.locked(series) as lock:
            self._mend(series, lock)
            for _ in range(_TRIES):
                with self._open(series, writable=True) as file:
                    self._refuse_shared(series, file)
                    added = self._put(series, lock, file, new, correct=correct)
                if added is not None:
                    return added
        raise StoreUnwritable(
            f"{path}: another program replaces it again and again",
            hint="end that program, or have it write elsewhere; it is tried again",
        )

    def _put(
        self,
        series: Series,
        lock: WriteLock,
        file: BarFile,
        bars: Sequence[Bar],
        *,
        correct: bool,
    ) -> int | None:
        """Put bars into an open file; None: look again, it has changed."""
        end = file.end
        if lacks_only_its_end(file, end, bars):
            self._complete(file, end)
            return None
        is_extended = not end.torn and file.links == 1
        if is_extended and file.layout.is_whole and is_behind(end, bars):
            return self._append(series, lock, file, bars)
        edits, added = edits_for(file, end, bars, correct=correct)
        if not edits:
            return 0
        until = max(end.whole_until, edits[-1].end)
        if not rewrite(file.path, file.descriptor, edits, until, partial(_is_same, file)):
            return None
        self._forget(series)
        return added

    def _refuse_shared(self, series: Series, file: BarFile) -> None:
        """MalformedFile: it is another series' file too, as it may have become since the scan."""
        if file.links > 1 or file.path.is_symlink():
            error = read_entries(self.folder).blocked.get(series)
            if error is not None:
                raise error

    def _complete(self, file: BarFile, end: End) -> None:
        """Give the last line its end, unless the file has changed."""
        text = b"\n" if end.torn.endswith(b"\r") else file.layout.newline
        if file.links > 1:
            edits = [Edit(file.size, file.size, text)]
            rewrite(file.path, file.descriptor, edits, file.size, partial(_is_same, file))
        elif _is_same(file):
            append(file.descriptor, file.size, text)

    def _append(
        self, series: Series, lock: WriteLock, file: BarFile, bars: Sequence[Bar]
    ) -> int | None:
        """Put bars behind the last one; None: the file has changed."""
        text = lines(bars, file.layout, self._model(series, file))
        lock.begin(file.key[2])
        try:
            is_same = _is_same(file)
            changed_ns = append(file.descriptor, file.size, text) if is_same else 0
        except OSError:
            with contextlib.suppress(OSError):
                if os.fstat(file.descriptor).st_size == file.size:
                    lock.withdraw()
            raise
        with contextlib.suppress(OSError):
            lock.end()
        if not is_same:
            return None
        try:
            key = key_of(file.path.stat())
        except FileNotFoundError:
            raise
        except OSError:
            self._forget(series)
            return len(bars)  # they are written, and on the disk
        if key[2] != file.key[2]:
            return None
        known = self._known(series)
        is_known = known is not None and known.key == file.key and known.is_settled
        if self._index and is_known and key[:2] == (file.size + len(text), changed_ns):
            starts = np.array([bar.start for bar in bars], np.int64)
            self._index.extend(series.file_name, key, starts, series.timeframe.length_s)
        else:
            self._forget(series)
        return len(bars)

    def _model(self, series: Series, file: BarFile) -> End:
        """The last row, as which new ones are spelled; without one, that of the file it is like."""
        if self._like is not None and file.end.last is None:
            old = self._like
            with contextlib.suppress(OSError, MalformedFile), old._open(series) as opened:  # noqa: SLF001  another one of this class
                return opened.end
        return file.end

    # What was cut short.

    def _mend(self, series: Series, lock: WriteLock) -> bool:
        """Take away what there is of rows that were not written to their end; whether it had to.

        In a copy, for whoever is just reading the file has seen some of it. Only what we have
        torn: the last row of another program may lack nothing but its end.
        """
        for _ in range(_TRIES):
            left = lock.unfinished()
            if left is None:
                return False
            with self._open(series) as file:
                is_this = left.inode in (file.key[2], 0)
                until = file.size if left.is_withdrawn else file.end.whole_until
                if is_this and (left.is_withdrawn or file.end.torn):
                    is_same = partial(_is_same, file)
                    if not rewrite(file.path, file.descriptor, [], until, is_same):
                        continue
            self._forget(series)
            lock.end()
            return is_this
        return False

    def clear_leftovers(self) -> int:
        """Remove what a killed writer left; how many files that were."""
        ours = self.folder / OURS
        folders, beside = {self.folder, ours, ours / "replaced", ours / "renewed"}, set[Path]()
        with contextlib.suppress(FileNotFoundError):
            links = [path for path in self.folder.glob("*.csv") if path.is_symlink()]
            beside = {Path(os.path.realpath(path)).parent for path in links} - folders
        left = sum(clear_leftovers(folder) for folder in folders)
        for folder in beside:
            with contextlib.suppress(OSError):  # which need not be ours
                left += clear_leftovers(folder)
        return left + self._mend_all() + self.renewals._mend_all()  # noqa: SLF001  another one of this class

    def _mend_all(self) -> int:
        mended = 0
        for path in self._locks.glob("*.lock"):
            with contextlib.suppress(FileNotFoundError, KtrdrError, ValueError):
                mended += self.mend(parse_series(f"{path.stem}.csv"))  # the next `add` says why not
        return mended

    def mend(self, series: Series) -> bool:
        """Take away what there is of rows that we were killed at; whether it had to be done.

        StoreUnwritable, MalformedFile: it stays, and no reader takes it for a row.
        """
        path = self._lock_path(series)
        with _reported(path):
            if left_unfinished(path) is None:
                return False
        with _reported(self.path(series)), self.locked(series) as lock:
            return self._mend(series, lock)

    # Series that are pulled again.

    @property
    def renewals(self) -> CsvStore:
        """Where series are pulled again, beside their own files."""
        return CsvStore(self.folder / OURS / "renewed", like=self)

    def begin_renewed(self, series: Series) -> None:
        """An empty file in `renewals` with the first line of this one, unless there is a file.

        So its columns, its line ends and its byte order mark stay. FileNotFoundError,
        MalformedFile: there is no such line.
        """
        path = self.renewals.path(series)
        with _reported(path), contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._open(series) as file:
                write_new(path, file.header)

    def take_renewed(self, series: Series, stamp: str) -> Path:
        """Put the renewed series into the place of this one, in one step.

        Where the old one is kept. StoreUnwritable: nothing has changed.
        """
        newer = self.renewals.path(series)
        with _reported(self.path(series)), self.locked(series):
            kept = self.place_for_old(series, stamp)
            target = Path(os.path.realpath(self.path(series)))
            keep(target, kept)
            take_after(target, newer)
            move(newer, target)
        self._forget(series)
        return kept

    def place_for_old(self, series: Series, stamp: str) -> Path:
        """Where a file is kept that another one takes the place of: a name that is free."""
        folder = self.folder / OURS / "replaced"
        endings = chain([""], (f"-{number}" for number in count(2)))
        places = (folder / f"{series}.{stamp}{ending}.csv" for ending in endings)
        return next(place for place in places if not place.exists())

    def flush(self) -> None:
        """Let other processes see what was found."""
        if self._index is not None:
            self._index.flush()

    def close(self) -> None:
        """Flush, and let go of the index; it is opened again when it is needed."""
        if self._index is not None:
            self._index.close()

    # What was seen.

    def _known(self, series: Series) -> Known | None:
        return self._index.known().get(series.file_name) if self._index else None

    def _indexed_starts(self, series: Series, since: int) -> Int64Array | None:
        assert self._index is not None
        return self._index.starts(series.file_name, since, series.timeframe.length_s)

    def _forget(self, series: Series) -> None:
        if self._index is not None:
            self._index.forget([series.file_name])

    def _remember(self, series: Series, seen: Seen, looked_ns: int) -> None:
        if self._index is not None:
            settled = is_settled(seen.key, looked_ns)
            known = Known(seen.key, settled, *seen[1:4], seen.is_verified)
            self._index.keep(series.file_name, known, seen.starts, series.timeframe.length_s)

    def _lock_path(self, series: Series) -> Path:
        return self._locks / f"{series}.lock"

    @contextlib.contextmanager
    def locked(self, series: Series) -> Iterator[WriteLock]:
        """Nobody else of ours writes to the series' file, nor do we with `add` or `mend`.

        StoreUnwritable: somebody does, for long. OSError: the lock cannot be made.
        """
        try:
            with held(self._lock_path(series), _LOCK_TIMEOUT_S) as lock:
                yield lock
        except LockBusy:
            raise StoreUnwritable(
                f"{series.file_name} has been locked by another process for {_LOCK_TIMEOUT_S:g} s",
                hint=f"end the program that has {OURS}/locks/{series}.lock open; it is tried again",
            ) from None


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Translate what the file system refuses, but for a file that is not there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def _known_from(first: int | None, since: int) -> int:
    """Since when all bars are known, where those from `since` on are; 0 and before: all are."""
    return min(first or 0, 0) if first is None or first >= since else since


def _is_same(file: BarFile) -> bool:
    """The path still means this file, and nobody has written to it."""
    return key_of(file.path.stat()) == file.key
