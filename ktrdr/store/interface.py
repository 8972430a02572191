"""The protocol by which the gap filler and DataManager use a store of bars. Stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.store.csv_text import Rows, Window
from ktrdr.store.file_key import FileKey

_NONE = np.empty(0, np.int64)


class Scan(NamedTuple):
    """The contents of a store."""

    found: dict[Series, FileKey]
    """Every series, with a key that changes when it does."""
    changed: list[Series]
    """Those not read since they changed."""
    other_names: Sequence[str]
    """Names of files that are no series."""
    blocked: Mapping[Series, MalformedFile] = MappingProxyType({})
    """Series that must not be read or written, such as two names of one file, and why."""
    folders: Sequence[str] = ()
    """Names of subfolders."""


class FileContents(NamedTuple):
    """The bars of a series."""

    key: FileKey
    """The version of the series: the same key, the same content."""
    first: int | None
    last: int | None
    """Starts of its first and last row, UTC seconds; None: it is empty."""
    since: int
    """From then on its bars are known; 0, or its first row before 1970: all of them."""
    starts: Int64Array
    """Their starts, UTC seconds, ascending, without duplicates."""
    is_verified: bool
    """Every row was read, and is valid."""
    incomplete: Int64Array = _NONE
    """The starts of rows that lack a value (`missing_values`), as far as they were read.

    They are no bars, and stay as they are; UTC seconds, ascending.
    """

    @property
    def row_starts(self) -> Int64Array:
        """The starts of all its rows, also of those that lack a value; ascending."""
        return np.union1d(self.starts, self.incomplete) if len(self.incomplete) else self.starts


class BarStore(Protocol):
    """Bars by series. Starts are UTC seconds, intervals are `[start, end)`.

    Reading a missing series raises FileNotFoundError, a broken one MalformedFile with the line; a
    write that the store refuses raises StoreUnwritable, and changes nothing.
    """

    folder: Path
    """The folder for everything but the bars."""

    def source(self) -> str | None:
        """`live` or `simulated`; None: it was never written to."""

    def claim(self, source: str) -> None:
        """Make it a store of this source. WrongSource: it belongs to the other one."""

    def scan(self) -> Scan:
        """Every series."""

    def key(self, series: Series) -> FileKey | None:
        """Changes when the series does; None: there is no such series."""

    def contents(self, series: Series, since: int) -> FileContents:
        """Its bars from `since` on; earlier ones may be among them."""

    def verify(self, series: Series) -> FileContents:
        """Its bars, after reading every row."""

    def was_verified(self, series: Series) -> bool:
        """Every row was read since it last changed."""

    def rows(self, series: Series, start: int = ..., end: int = ...) -> Rows:
        """The rows of the bars that start in the interval, as lines of CSV. For any thread."""

    def window(
        self, series: Series, start: int, end: int, most_bytes: int
    ) -> AbstractContextManager[Window]:
        """The same as lines, and perhaps more lines around them, about `most_bytes` at a time.

        They are read while the context lasts. MalformedFile also where they change meanwhile.
        """

    def nearest(self, series: Series, start: int, end: int) -> int | None:
        """The start of the bar nearest to the interval and outside it; None: there is none."""

    def line_of(self, series: Series, start: int) -> tuple[int, str] | None:
        """The number of the line with the row of this start, and its text; None: no such row."""

    def create(self, series: Series) -> None:
        """Create an empty series, unless there is one."""

    def add(
        self, series: Series, bars: Iterable[Bar], *, correct: bool = ..., is_foreign: bool = ...
    ) -> int:
        """Add bars, unless it has one of that start; returns how many were new.

        Existing bars stay as they are, unless they are to be corrected. `is_foreign`: others have
        bars in it, so that it may have to be known later which ones are ktrdr's.
        """

    def last_write(self, series: Series) -> tuple[FileKey, FileKey] | None:
        """The keys before and after the last `add`; None: others have changed the series too."""

    def flush(self) -> None:
        """Publish what was read to other processes, which saves them time."""

    def close(self) -> None:
        """Flush, and close open files; they are opened again when needed."""

    @property
    def staging(self) -> BarStore:
        """The store of the staging copies of series that are being rebuilt."""

    def begin_staging(self, series: Series) -> None:
        """Create an empty series in `staging`, unless there is one, with the same columns."""

    def take_staged(self, series: Series, stamp: str, key: FileKey | None = ...) -> Path:
        """Replace a series by its staging copy, in one step; returns where the old one is kept.

        `key`: only if it still has this one, else StoreUnwritable.
        """
