"""What the gap filler and the DataManager want of a store of bars, whatever keeps them."""

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
    """What there is in a store."""

    found: dict[Series, FileKey]
    """Every series, with what changes when it does."""
    changed: list[Series]
    """Those that are not known as they are now."""
    strange: list[str]
    """A line for each thing that looks like a series, and is none."""
    blocked: Mapping[Series, MalformedFile] = MappingProxyType({})
    """Those of which nothing may be read or written, such as two names for one file, and why."""


class FileContents(NamedTuple):
    """Which bars a series has."""

    key: FileKey
    """The series was this one: the same key, the same content."""
    first: int | None
    last: int | None
    """Starts of its first and last bar, UTC seconds; None: it is empty."""
    since: int
    """From then on its bars are known; 0, or its first bar before 1970: all of them."""
    starts: Int64Array
    """Their starts, UTC seconds, ascending, without duplicates."""
    is_verified: bool
    """Every row was looked at, and can be read."""


class BarStore(Protocol):
    """Bars by series. Starts are UTC seconds, spans are `[start, end)`.

    Reading a series that is not there raises FileNotFoundError, one that is broken MalformedFile
    with the line; a store that refuses to be written to raises StoreUnwritable, and is as it was.
    """

    folder: Path
    """Where what is known beside the bars is kept."""

    def source(self) -> str | None:
        """`live` or `simulated`; None: nothing was written to it."""

    def claim(self, source: str) -> None:
        """It belongs to this source from now on. WrongSource: to the other one."""

    def scan(self) -> Scan:
        """Every series."""

    def key(self, series: Series) -> FileKey | None:
        """Changes when the series does; None: there is no such series."""

    def contents(self, series: Series, since: int) -> FileContents:
        """Which bars it has from `since` on; earlier ones may be among them."""

    def verify(self, series: Series) -> FileContents:
        """Which bars it has, after a look at every row."""

    def was_verified(self, series: Series) -> bool:
        """Every row was looked at since it changed last."""

    def rows(self, series: Series, start: int = ..., end: int = ...) -> Rows:
        """The rows of the bars that start in the span, as lines of CSV. For any thread."""

    def nearest(self, series: Series, start: int, end: int) -> int | None:
        """The start of the bar nearest to the span and outside it; None: there is none."""

    def create(self, series: Series) -> None:
        """An empty series, unless there is one."""

    def add(self, series: Series, bars: Iterable[Bar], *, correct: bool = ...) -> int:
        """Put bars where it has none of that start; how many were new.

        Those that are there stay as they are, unless they are to be corrected.
        """

    def flush(self) -> None:
        """Let other processes see what was found; nothing is lost without it but time."""

    def close(self) -> None:
        """Flush, and let go of what is open; it is opened again when it is needed."""

    @property
    def staging(self) -> BarStore:
        """A store beside it, of series that are pulled again."""

    def begin_staging(self, series: Series) -> None:
        """An empty series in `staging`, unless there is one, with the same columns."""

    def take_staged(self, series: Series, stamp: str) -> Path:
        """Put a renewed series into the place of the old one, in one step; where that is kept."""
