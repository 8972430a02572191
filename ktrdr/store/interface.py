"""What the gap filler and the DataManager need of a store of bars, whatever keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.store.bar_file import FileKey
from ktrdr.store.csv_text import Rows


class Scan(NamedTuple):
    """The contents of a store."""

    found: dict[Series, FileKey]
    """Every series, with a key that changes when it does."""
    changed: list[Series]
    """Those not read since they changed."""
    strange: list[str]
    """A message for each thing that looks like a series, and is none."""
    blocked: Mapping[Series, MalformedFile] = MappingProxyType({})
    """Those that may not be read or written, such as two names for one file, and why."""


class FileContents(NamedTuple):
    """The bars of a series."""

    key: FileKey
    """The version of the series: the same key, the same content."""
    first: int | None
    last: int | None
    """Starts of its first and last bar, UTC seconds; None: it is empty."""
    since: int
    """From then on its bars are known; 0, or its first bar before 1970: all of them."""
    starts: Int64Array
    """Their starts, UTC seconds, ascending, without duplicates."""
    is_verified: bool
    """Every row was read, and is valid."""


class BarStore(Protocol):
    """Bars by series. Starts are UTC seconds, spans are `[start, end)`.

    Reading a missing series raises FileNotFoundError, a broken one MalformedFile with the line; a
    store that refuses a write raises StoreUnwritable, and is as it was.
    """

    folder: Path
    """The folder for everything but the bars."""

    def source(self) -> str | None:
        """`live` or `simulated`; None: it was never written to."""

    def claim(self, source: str) -> None:
        """It belongs to this source from now on. WrongSource: it belongs to the other one."""

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

    def nearest(self, series: Series, start: int, end: int) -> int | None:
        """The start of the bar nearest to the interval and outside it; None: there is none."""

    def create(self, series: Series) -> None:
        """An empty series, unless there is one."""

    def add(self, series: Series, bars: Iterable[Bar], *, correct: bool = ...) -> int:
        """Add bars, unless it has one of that start; how many were new.

        Existing ones stay as they are, unless they are to be corrected.
        """

    def flush(self) -> None:
        """Publish what was read to other processes; without it they only lose time."""

    def close(self) -> None:
        """Flush, and close open files; they are opened again when needed."""

    @property
    def staging(self) -> BarStore:
        """A store beside it, for the staging copies of series that are being rebuilt."""

    def begin_staging(self, series: Series) -> None:
        """Create an empty series in `staging`, unless there is one, with the same columns."""

    def take_staged(self, series: Series, stamp: str) -> Path:
        """Replace a series by the rebuilt one, in one step; returns where the old one is kept."""
