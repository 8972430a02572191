"""A series' bars as they are in the store, some at a time: for who passes them on.

`DataManager` gives DataFrames; here no more than a piece of a file is in memory, and no pandas.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ktrdr.config.settings import Settings
from ktrdr.data.coverage_reading import CoverageReading, unknown_series
from ktrdr.data.fetching import ALWAYS, FetchResult
from ktrdr.errors import KtrdrError
from ktrdr.ipc.messages import SeriesCoverage
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.csv_text import Lines
from ktrdr.store.file_errors import unwritable
from ktrdr.store.file_key import FileKey
from ktrdr.store.index import is_settled

EVER = ALWAYS
"""The interval of all times (UTC seconds)."""

_PIECE_BYTES = 60 * 1024
"""Of a file at a time: what is made of them takes a millisecond, and larger blocks of memory are
mapped anew each time (see `process.give_memory_back`)."""
_VERIFIED_KEPT = 10_000
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class OpenBars:
    """The bars of a series in an interval, in an open file that is closed by `close`."""

    series: Series
    span: tuple[int, int]
    """UTC seconds; of a limited reading it ends before the first bar that is left out."""
    next_start: int | None
    """The start of that bar; None: none is left out."""
    source: str | None
    """`live` or `simulated`; None: not known."""
    complete: bool
    """No bar is missing, which is proven."""
    why: str
    """Why not."""
    file: BarFile

    @property
    def key(self) -> FileKey:
        """The same key, the same bars."""
        return self.file.key

    def pieces(self) -> Iterator[Lines]:
        """The rows in order, some at a time."""
        return self.file.pieces(*self.span, _PIECE_BYTES)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class BarReading:
    """Reads the store of these settings. For any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = CsvStore(settings.data_dir)
        self._coverage = CoverageReading(settings, self._store)
        self._verified: OrderedDict[Series, FileKey] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, series: Series, span: tuple[int, int], limit: int | None = None) -> OpenBars:
        """The first `limit` bars that start in `[start, end)`, UTC seconds; without one, all.

        UnknownSeries: there is no such file. MalformedFile: one of its rows is invalid.
        StoreUnwritable: it cannot be read.
        """
        entry, why = self._coverage.of_gap_filler(series, span)  # before the file is read
        try:
            file = BarFile(self._store.path(series), series.timeframe)
        except FileNotFoundError:
            raise unknown_series(self._store, series) from None
        except OSError as error:
            raise unwritable(series.file_name, error) from error
        try:
            return self._opened(file, series, span, limit, entry, why)
        except BaseException:
            file.close()
            raise

    def _opened(
        self,
        file: BarFile,
        series: Series,
        span: tuple[int, int],
        limit: int | None,
        entry: SeriesCoverage | None,
        why: str,
    ) -> OpenBars:
        self._verify(series, file)
        next_start = None if limit is None else _start_after(file, span, limit)
        chosen = (span[0], span[1] if next_start is None else next_start)
        found = FetchResult(complete=False, why=why)
        if entry is not None:
            found = self._judged(series, entry, file, chosen)
        source = self._store.source() or self._settings.presumed_source
        return OpenBars(series, chosen, next_start, source, found.complete, found.why, file)

    def _judged(
        self, series: Series, entry: SeriesCoverage, file: BarFile, span: tuple[int, int]
    ) -> FetchResult:
        """Whether the bars are complete; which are there matters where the file has changed."""
        is_assessed = entry.expected is not None and entry.key == file.key
        present = _NONE if is_assessed else _starts(file, span)
        try:
            return self._coverage.judged(series, entry, file.key, present, span)
        except KtrdrError as error:
            return FetchResult(complete=False, why=error.message)

    def _verify(self, series: Series, file: BarFile) -> None:
        """Rows are found by their order, which is verified once for each version of a file."""
        with self._lock:
            if self._verified.get(series) == file.key:
                return
        read_ns = time.time_ns()
        if not self._store.was_verified(series):
            file.verify()
        if not is_settled(file.key, read_ns):
            return
        with self._lock:
            self._verified[series] = file.key
            while len(self._verified) > _VERIFIED_KEPT:
                self._verified.popitem(last=False)


def _start_after(file: BarFile, span: tuple[int, int], limit: int) -> int | None:
    """The start of the bar that follows the first `limit` ones; None: there is none."""
    left = limit
    for lines in file.pieces(*span, _PIECE_BYTES):
        count = lines.raw.count(b"\n")
        if count > left:
            return int(lines.rows().starts[left])
        left -= count
    return None


def _starts(file: BarFile, span: tuple[int, int]) -> Int64Array:
    return np.concatenate(
        [_NONE, *(lines.rows().starts for lines in file.pieces(*span, _PIECE_BYTES))]
    )
