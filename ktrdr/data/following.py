"""Reads the finished bars of some series once each, in order, a piece at a time. Writes nothing.

Who waits for them is in `follower` (Python) and in `ktrdr.web.stream_pump` (HTTP).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ktrdr.config.settings import Settings
from ktrdr.data.coverage_reading import unknown_series
from ktrdr.errors import KtrdrError, MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.file_errors import unwritable
from ktrdr.store.file_key import FileKey
from ktrdr.store.interface import BarStore

POLL_S = 5.0
"""How often to look although no change was reported, as on a network file system."""
_MOST_BARS = 500
_FAR = 2**62


class Piece(NamedTuple):
    """The next bars of all series."""

    bars: list[tuple[Series, Bar]]
    """By start and symbol; of each series later than all before."""
    errors: list[KtrdrError]
    """Series that cannot be read now; each is named once, until it has been read again."""
    more: bool
    """Others follow at once."""


class Following:
    """How far each series has been given. For one thread at a time."""

    def __init__(self, store: BarStore, positions: Mapping[Series, int]) -> None:
        """`positions`: for each series the first start (UTC seconds) that is wanted."""
        self._store = store
        self._positions = dict(positions)
        self._read_keys: dict[Series, FileKey] = {}
        self._reported: dict[Series, str] = {}

    @property
    def positions(self) -> dict[Series, int]:
        """For each series the first start that has not been given: where to go on another time."""
        return dict(self._positions)

    @property
    def folder(self) -> Path:
        """Where changes are to be noticed."""
        return self._store.folder

    def next_piece(self) -> Piece:
        """Some hundred bars at most, those that start earlier first.

        Only the end of a file that has changed is read. A file that is missing is waited for.
        """
        errors: list[KtrdrError] = []
        unread = self._unread(errors)
        bars, later = self._read(unread, -_FAR, errors)
        if not bars and later:  # nothing for a while, as over a weekend
            bars, later = self._read(unread, min(later.values()), errors)
            if any(self._store.key(series) != key for series, key in unread.items()):
                return Piece([], errors, more=True)  # the later rows are perhaps another file's
        bars.sort(key=lambda one: (one[1].start, one[0].symbol, one[0].timeframe.length_s))
        for series, bar in bars:
            self._positions[series] = bar.start + 1
        for series, key in unread.items():
            self._reported.pop(series, None)
            if series not in later:
                self._read_keys[series] = key
        return Piece(bars, errors, more=bool(later))

    def _unread(self, errors: list[KtrdrError]) -> dict[Series, FileKey]:
        """The series that have changed since they were read to their end."""
        found = {}
        for series in self._positions:
            try:
                key = self._store.key(series)
            except OSError as error:
                self._report(series, unwritable(series.file_name, error), errors)
                continue
            if key is not None and self._read_keys.get(series) != key:
                found[series] = key
        return found

    def _read(
        self, unread: dict[Series, FileKey], since: int, errors: list[KtrdrError]
    ) -> tuple[list[tuple[Series, Bar]], dict[Series, int]]:
        """The next bars until some time later than `since`, and the first of each series after it.

        What cannot be read is taken out of `unread`.
        """
        bars: list[tuple[Series, Bar]] = []
        later = {}
        until = self._until(unread, since)
        for series, key in [*unread.items()]:
            begin = self._positions[series]
            end = max(begin, until)
            try:
                found = self._store.rows(series, begin, end).bars()
                after = self._store.nearest(series, -_FAR, end)
            except FileNotFoundError:
                del unread[series]
            except MalformedFile as error:
                del unread[series]
                self._read_keys[series] = key
                self._report(series, error, errors)
            except OSError as error:
                del unread[series]
                self._report(series, unwritable(series.file_name, error), errors)
            else:
                bars += [(series, bar) for bar in found]
                if after is not None:
                    later[series] = after
        return bars, later

    def _until(self, unread: Iterable[Series], since: int) -> int:
        """Until when all of them together have some hundred bars at most."""
        chosen = [*unread]
        count = max(1, _MOST_BARS // max(1, len(chosen)))
        ends = [max(self._positions[one], since) + count * one.timeframe.length_s for one in chosen]
        return min(ends, default=_FAR)

    def _report(self, series: Series, error: KtrdrError, errors: list[KtrdrError]) -> None:
        if self._reported.get(series) != error.message:
            self._reported[series] = error.message
            errors.append(error)


class FollowedStore:
    """The store of some settings, for followers. For any thread."""

    def __init__(self, settings: Settings) -> None:
        self._store: BarStore = CsvStore(settings.data_dir)
        self._presumed_source = settings.presumed_source

    @property
    def source(self) -> str | None:
        """`live` or `simulated`; None: not known."""
        return self._store.source() or self._presumed_source

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._store.folder

    def positions(self, series: Iterable[Series], since: int | None, now: int) -> dict[Series, int]:
        """As `first_positions`."""
        return first_positions(self._store, series, since, now)

    def following(self, positions: Mapping[Series, int]) -> Following:
        """Bars from these positions on."""
        return Following(self._store, positions)


def first_positions(
    store: BarStore, series: Iterable[Series], since: int | None, now: int
) -> dict[Series, int]:
    """The first starts that are wanted: from `since` on, or else of the bars that end after `now`.

    The latter are also later than what the file has by now. UTC seconds. UnknownSeries: there is no
    such file; its hint names the nearest one. MalformedFile, StoreUnwritable: it cannot be read.
    """
    return {one: _first_position(store, one, since, now) for one in series}


def _first_position(store: BarStore, series: Series, since: int | None, now: int) -> int:
    try:
        last = store.nearest(series, _FAR, _FAR)
    except FileNotFoundError:
        raise unknown_series(store, series) from None
    except OSError as error:
        raise unwritable(series.file_name, error) from error
    if since is not None:
        return since
    ends_later = now - series.timeframe.length_s + 1
    return ends_later if last is None else max(last + 1, ends_later)
