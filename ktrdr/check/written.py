"""Which rows of a store's files are ktrdr's, and their release. Needs none of the programs."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from ktrdr.errors import MalformedFile, NotReleasable, StoreUnwritable, UnknownSeries
from ktrdr.ledger.reader import own_file
from ktrdr.market.instruments import Series
from ktrdr.sqlite_file import DatabaseError, is_busy, reading
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.file_errors import TRY_AGAIN, hint_for
from ktrdr.store.release import OwnRange, Released, own_rows, release
from ktrdr.store.source import ledger_path
from ktrdr.store.written_rows import WrittenRows


class Share(Enum):
    """Which rows of a file are ktrdr's."""

    ALL = "all"
    SOME = "some"
    UNKNOWN = "unknown"
    """None is recorded."""


@dataclass(frozen=True)
class FileShare:
    """The rows of one file that ktrdr wrote."""

    series: Series
    share: Share
    since: int | None = None
    """When the first of them was written into a file that others began (UTC seconds)."""
    ranges: tuple[OwnRange, ...] = ()
    """Those in a file that others began, without their rows between them."""
    edited: tuple[int, ...] = ()
    """Starts of rows of ktrdr's that others have changed since (UTC seconds)."""
    error: str = ""
    """Why the file cannot be read; else empty."""

    @property
    def rows(self) -> int:
        """How many rows a release would take out."""
        return sum(one.rows for one in self.ranges)


class WrittenFiles:
    """The files of one store. `clock` returns UTC seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._ledger = ledger_path(folder)
        self._clock = clock

    def share(self, series: Series) -> FileShare:
        """Which rows of its file are ktrdr's. UnknownSeries: it has none."""
        try:
            with BarFile(self._folder / series.file_name, series.timeframe) as file:
                return self._share(series, file)
        except FileNotFoundError:
            raise self._unknown(series) from None
        except MalformedFile as error:
            return FileShare(series, Share.UNKNOWN, error=error.message)
        except OSError as error:
            why = f"{series.file_name}: {error.strerror or error}; {hint_for(error, TRY_AGAIN)}"
            return FileShare(series, Share.UNKNOWN, error=why)

    def _share(self, series: Series, file: BarFile) -> FileShare:
        if own_file(self._ledger, series) == file.key:
            return FileShare(series, Share.ALL)
        try:
            with reading(self._ledger) as database:
                written = WrittenRows(series, lambda: database)
                before = written.before()
                if before is not None:
                    own = own_rows(file, written)
                    ranges, edited = tuple(own.ranges), tuple(own.edited)
                    return FileShare(series, Share.SOME, before.at, ranges, edited)
        except DatabaseError as error:
            if self._ledger.exists() and is_busy(error):
                why = f"{self._ledger} cannot be read now: {error}"
                return FileShare(series, Share.UNKNOWN, error=why)
        return FileShare(series, Share.UNKNOWN)

    def releasable(self, series: Series) -> FileShare:
        """The share of a file of which rows can be released.

        UnknownSeries: there is no such file. NotReleasable: all of it is ktrdr's, or none of its
        rows is recorded.
        """
        share = self.share(series)
        name = series.file_name
        if share.error:
            raise NotReleasable(f"{name}: {share.error}", hint="ktrdr check says what is broken")
        if share.share is Share.ALL:
            raise NotReleasable(
                f"{name}: all of its rows are ktrdr's, so that none would be left",
                hint=f"to have no such file: ktrdr watch remove {shlex.quote(series.symbol)} "
                f"{series.timeframe.value}, then delete {name}; as long as it is kept, and even "
                "without a row, it is filled again",
            )
        if share.share is Share.UNKNOWN:
            ledger = self._ledger.relative_to(self._folder)
            has = "has no row of ktrdr's in it" if self._ledger.exists() else "is not there"
            raise NotReleasable(
                f"{name}: it is not known which of its rows are ktrdr's: the record of them, "
                f"{ledger}, {has}",
                hint="nothing was changed; take rows out by hand, or restore the file from a "
                "backup, after ktrdr watch remove",
            )
        return share

    def release(self, series: Series) -> Released:
        """Take ktrdr's rows out of a file. Errors as `releasable`, and StoreUnwritable."""
        self.releasable(series)
        stamp = f"{datetime.fromtimestamp(self._clock(), UTC):%Y%m%dT%H%M%SZ}"
        store = CsvStore(self._folder, indexed=True)
        try:
            with contextlib.closing(store):
                released = release(store, series, stamp)
        except FileNotFoundError:
            raise self._unknown(series) from None
        except DatabaseError as error:
            what = f"{self._ledger} cannot be written: {error}"
            hint = "see who else uses it, and whether its disk is full, then try again"
            raise StoreUnwritable(what, hint=hint) from error
        if released is None:
            raise NotReleasable(
                f"{series.file_name}: its rows were released just now",
                hint="nothing to do",
            )
        return released

    def _unknown(self, series: Series) -> UnknownSeries:
        hint = "ktrdr gaps --written lists the files that are there"
        return UnknownSeries(f"{self._folder} has no {series.file_name}", hint=hint)
