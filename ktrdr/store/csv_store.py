"""A folder of bar files, `SYMBOL_TIMEFRAME.csv` each. Does not know which bars are missing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path

from ktrdr.errors import KtrdrError, StoreUnwritable, WrongSource
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series, parse_series
from ktrdr.sqlite_file import StateFile
from ktrdr.store.atomic_write import keep, move, take_after, write_new, write_whole
from ktrdr.store.bar_file import BarFile
from ktrdr.store.columns import HEADER
from ktrdr.store.csv_text import Rows, Window, left_out
from ktrdr.store.entries import read_entries
from ktrdr.store.file_errors import BY_ITSELF, TRY_AGAIN, unwritable
from ktrdr.store.file_key import FileKey, key_of
from ktrdr.store.growing_files import GrowingFiles
from ktrdr.store.index import INDEX, CoverageIndex, find_known
from ktrdr.store.interface import FileContents, Scan
from ktrdr.store.known_files import KnownFiles, known_from
from ktrdr.store.leftovers import clear_all
from ktrdr.store.lock import LockBusy, WriteLock, held, left_unfinished
from ktrdr.store.series_writer import SeriesWriter
from ktrdr.store.source import METADATA_DIR, ledger_path, source_of
from ktrdr.store.written_rows import TABLES, WrittenRows

_LOCK_TIMEOUT_S = 5.0
_FAR = 2**62
_STATE = INDEX._replace(tables=INDEX.tables + TABLES)


class CsvStore:
    """Every write extends a file or replaces it whole, or leaves it as it was.

    One writer at a time per file, across processes; readers need no lock. With `state` it keeps an
    index in that file, and is for one thread; so it is with `indexed`, in a file that it opens.
    `like`: a store whose spelling of times is used for files without rows.
    """

    def __init__(
        self,
        folder: Path,
        *,
        indexed: bool = False,
        state: StateFile | None = None,
        like: CsvStore | None = None,
    ) -> None:
        self.folder = folder
        self._like = like
        self._locks = folder / METADATA_DIR / "locks"
        self._state = StateFile(ledger_path(folder), _STATE) if indexed else state
        self._last_writes: dict[Series, tuple[FileKey, FileKey]] = {}
        self._known_files = KnownFiles(CoverageIndex(self._state) if self._state else None)

    def __repr__(self) -> str:
        return f"CsvStore({str(self.folder)!r})"

    # The source of its bars.

    def claim(self, source: str) -> None:
        """Make this a store of `live` or `simulated` bars, if it has no source yet.

        WrongSource: it is a store of the other source, and nothing is changed.
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
            (self.folder / METADATA_DIR).mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / METADATA_DIR / "source", [f"{source}\n".encode()])

    def source(self) -> str | None:
        """`live` or `simulated`; None for a store that was never written to."""
        return source_of(self.folder)

    # Reading.

    def scan(self) -> Scan:
        """Every series of the store, and which of the files have changed since they were read."""
        if self._state is not None:
            self._state.notice_deletion()
            self._bring_over()
        known = self._known_files.known()
        found, blocked, other_names, folders = read_entries(self.folder)
        changed = []
        for series, key in found.items():
            if (entry := known.get(series.file_name)) is None or not entry.is_current(key):
                changed.append(series)
        return Scan(found, changed, other_names, blocked, folders)

    def path(self, series: Series) -> Path:
        """Where the series' file is, or would be."""
        return self.folder / series.file_name

    def key(self, series: Series) -> FileKey | None:
        """Changes when the file does; None when there is no file."""
        try:
            return key_of(self.path(series).stat())
        except FileNotFoundError:
            return None

    def contents(self, series: Series, since: int) -> FileContents:
        """The bars that the series has from `since` on; earlier ones may be among them.

        MalformedFile names the line; FileNotFoundError: there is no such file.
        """
        key = self.key(series)
        if key is None:
            raise FileNotFoundError(self.path(series))
        known = self._known_files.contents(series, key, since)
        return self._read_anew(series, since) if known is None else known

    def verify(self, series: Series) -> FileContents:
        """The same after reading every row, which shows that all are valid and in order."""
        read_ns = time.time_ns()
        with self._open(series) as file:
            starts, lacking = file.starts()
            key, first, last = file.key, file.first, file.end.last
        begin = known_from(first, -_FAR)
        contents = FileContents(key, first, last, begin, starts, True, lacking)
        self._known_files.remember(series, contents, read_ns)
        return contents

    def was_verified(self, series: Series) -> bool:
        """Every row was read since it last changed, by this process or by another one."""
        name, key = series.file_name, self.key(series)
        if self._state is not None:
            known = self._known_files.of(series)
        else:
            known = find_known(ledger_path(self.folder), name)
        return known is not None and known.is_current(key) and known.is_verified

    def rows(self, series: Series, start: int = -_FAR, end: int = _FAR) -> Rows:
        """The rows of the bars that start in `[start, end)`. MalformedFile, FileNotFoundError."""
        with self._open(series) as file:
            return file.rows(start, end)

    @contextlib.contextmanager
    def window(self, series: Series, start: int, end: int, most_bytes: int) -> Iterator[Window]:
        """The lines with the same rows, while the file is open. Errors as in `rows`."""
        with self._open(series) as file:
            yield file.window(start, end, most_bytes)

    def nearest(self, series: Series, start: int, end: int) -> int | None:
        """The start of the bar nearest to `[start, end)` and outside it; None: there is none."""
        with self._open(series) as file:
            return file.nearest(start, end)

    def line_of(self, series: Series, start: int) -> tuple[int, str] | None:
        """The number of the line with the row of this start, and its text; None: no such row."""
        with self._open(series) as file:
            return file.line_of(start)

    def _open(self, series: Series) -> BarFile:
        return BarFile(self.path(series), series.timeframe)

    def _read_anew(self, series: Series, since: int) -> FileContents:
        read_ns = time.time_ns()
        with self._open(series) as file:
            first = file.first
            rows, _ = file.rows_from(since, _FAR)
            starts = rows.complete().starts
            last, key = file.end.last, file.key
        begin, lacking = known_from(first, since), left_out(rows.starts, starts)
        contents = FileContents(key, first, last, begin, starts, False, lacking)
        self._known_files.remember(series, contents, read_ns)
        return contents

    # Writing.

    def create(self, series: Series) -> None:
        """Create an empty series, unless there is one."""
        path = self.path(series)
        with _reported(path, TRY_AGAIN), contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new(path, f"{HEADER}\n".encode())

    def add(
        self,
        series: Series,
        bars: Iterable[Bar],
        *,
        correct: bool = False,
        is_foreign: bool = False,
    ) -> int:
        """Add bars to the series' file, unless it has one of that start; returns how many were new.

        Existing rows stay byte for byte, unless they are to be corrected. `is_foreign`: others have
        rows in it, so that the new ones are recorded in the index's file. StoreUnwritable: the disk
        refused, and the file is as it was; or complete, if only waiting until its name is on the
        disk has failed. MalformedFile: the file cannot be read, and is left as it is.
        """
        new = sorted({bar.start: bar for bar in bars}.values())
        if not new:
            return 0
        self._last_writes.pop(series, None)
        with _reported(self.path(series)), self.writing(series, is_foreign=is_foreign) as writer:
            added = writer.add(new, correct=correct)
            if writer.keys is not None:
                self._last_writes[series] = writer.keys
            return added

    def last_write(self, series: Series) -> tuple[FileKey, FileKey] | None:
        """The keys before and after the last `add`; None: others have changed the series too."""
        return self._last_writes.get(series)

    def _bring_over(self) -> None:
        """Add what other programs have appended to replaced files."""
        for series in GrowingFiles(self.folder).series():
            with (
                contextlib.suppress(OSError, KtrdrError),  # the next `add` reports it
                self.writing(series, timeout_s=0) as writer,
            ):
                writer.bring_over()

    # What killed writers left.

    def clear_leftovers(self) -> int:
        """Remove what killed writers left; returns the number of files."""
        removed = clear_all(self.folder) + self._remove_all_unfinished()
        return removed + self.staging._remove_all_unfinished()  # noqa: SLF001  of this class

    def _remove_all_unfinished(self) -> int:
        removed = 0
        for path in self._locks.glob("*.lock"):
            with contextlib.suppress(FileNotFoundError, KtrdrError, ValueError):
                series = parse_series(f"{path.stem}.csv")
                removed += self.remove_unfinished(series)  # else the next `add` reports it
        return removed

    def remove_unfinished(self, series: Series) -> bool:
        """Remove rows that a killed writer left unfinished; returns whether there were any.

        StoreUnwritable, MalformedFile: they stay; no reader takes them for rows.
        """
        path = self._lock_path(series)
        with _reported(path):
            if left_unfinished(path) is None:
                return False
        with _reported(self.path(series)), self.writing(series) as writer:
            return writer.remove_unfinished()

    # Rebuilds.

    @property
    def staging(self) -> CsvStore:
        """The staging copies of series that are being rebuilt."""
        return CsvStore(self.folder / METADATA_DIR / "renewed", like=self)

    def begin_staging(self, series: Series) -> None:
        """Create a file in `staging` with the first line of this series' file, unless there is one.

        The first line sets columns, line ends and byte order mark. FileNotFoundError,
        MalformedFile: there is no such line.
        """
        path = self.staging.path(series)
        with _reported(path, TRY_AGAIN), contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._open(series) as file:
                write_new(path, file.header)

    def take_staged(self, series: Series, stamp: str, key: FileKey | None = None) -> Path:
        """Replace a series by its staging copy, in one step.

        Returns where the old file is kept. StoreUnwritable: nothing has changed, perhaps since the
        series is not as it was with this `key` any more.
        """
        newer = self.staging.path(series)
        with _reported(self.path(series)), self.locked(series):
            target = Path(os.path.realpath(self.path(series)))
            old = os.open(target, os.O_RDONLY)
            try:
                with GrowingFiles(self.folder).replacing(series, target, old, newer):
                    if key not in (None, key_of(os.fstat(old))):
                        what = f"{series.file_name} was changed just now"
                        raise StoreUnwritable(what, hint="it is tried again")
                    kept = place_for_old(self.folder, series, stamp)
                    keep(target, kept)
                    take_after(target, newer)
                    move(newer, target)
            finally:
                os.close(old)
        self._known_files.forget(series)
        return kept

    def flush(self) -> None:
        """Publish the index to other processes."""
        self._known_files.flush()

    def close(self) -> None:
        """Flush, and close the index; it is opened again when needed."""
        self._known_files.close()
        if self._state is not None:
            self._state.close()

    @contextlib.contextmanager
    def writing(
        self, series: Series, timeout_s: float = _LOCK_TIMEOUT_S, *, is_foreign: bool = True
    ) -> Iterator[SeriesWriter]:
        """Hold the lock of a series' file, and write to it. Raises as `locked`; see `add`."""
        like = self._like.folder if self._like else None
        written = WrittenRows(series, self._state.database if self._state and is_foreign else None)
        with self.locked(series, timeout_s) as lock:
            yield SeriesWriter(self.folder, series, lock, self._known_files, written, like)

    def _lock_path(self, series: Series) -> Path:
        return self._locks / f"{series}.lock"

    @contextlib.contextmanager
    def locked(self, series: Series, timeout_s: float = _LOCK_TIMEOUT_S) -> Iterator[WriteLock]:
        """Hold the lock of a series' file: nobody else in ktrdr writes to it meanwhile.

        StoreUnwritable: another process holds it for too long. OSError: it cannot be made.
        """
        try:
            with held(self._lock_path(series), timeout_s) as lock:
                yield lock
        except LockBusy:
            raise StoreUnwritable(
                f"{series.file_name} has been locked by another process for {timeout_s:g} s",
                hint=f"end the program that has {METADATA_DIR}/locks/{series}.lock open; "
                "it is tried again",
            ) from None


@contextlib.contextmanager
def _reported(path: Path, then: str = BY_ITSELF) -> Iterator[None]:
    """Translate errors of the file system, except FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unwritable(path, error, then) from error


def place_for_old(folder: Path, series: Series, stamp: str) -> Path:
    """A free name to keep a file of the store in `folder` under that is being replaced."""
    endings = chain([""], (f"-{number}" for number in count(2)))
    names = (f"{series}.{stamp}{ending}.csv" for ending in endings)
    places = (folder / METADATA_DIR / "replaced" / name for name in names)
    return next(place for place in places if not place.exists())
