"""Gives each finished bar of some series once, in order, as the store gets it. Writes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ktrdr.errors import StoreUnwritable
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.store.file_key import FileKey
from ktrdr.store.folder_watch import FolderWatch
from ktrdr.store.interface import BarStore

_POLL_S = 5.0
"""How often to look although no change was reported, as on a network file system."""
_FAR = 2**62


@dataclass(frozen=True)
class FinishedBar:
    """A bar that has ended, as it stands in the store."""

    symbol: str
    timeframe: str
    start: datetime
    """UTC; of a daily bar the midnight of its trading day."""
    open: float
    high: float
    low: float
    close: float
    volume: float
    """-1: IB has none."""


class Following:
    """What was given of each series, and what is new. For one thread."""

    def __init__(self, store: BarStore, begin: Mapping[Series, int]) -> None:
        """`begin`: for each series the first start (UTC seconds) that is wanted."""
        self._store = store
        self._next = dict(begin)
        self._keys: dict[Series, FileKey] = {}

    def new_bars(self) -> list[FinishedBar]:
        """The bars that are later than the last ones given, by start and symbol.

        Only the end of a file that has changed is read. MalformedFile: it cannot be read.
        StoreUnwritable: the system refuses to read it.
        """
        found = [(bar, series) for series in self._next for bar in self._new_of(series)]
        found.sort(key=lambda one: (one[0].start, one[1].symbol))
        return [_finished(bar, series) for bar, series in found]

    def _new_of(self, series: Series) -> list[Bar]:
        try:
            key = self._store.key(series)
            if key is None or self._keys.get(series) == key:
                return []
            bars = self._store.rows(series, self._next[series], _FAR).bars()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreUnwritable(f"{series.file_name}: {error.strerror}") from error
        self._keys[series] = key
        if bars:
            self._next[series] = bars[-1].start + 1
        return bars


def first_wanted(store: BarStore, series: Series, since: int | None, now: int) -> int:
    """The first start that is wanted: from `since` on, or else of the bars that end after `now`.

    The latter are also later than what the file has by now. UTC seconds.
    """
    if since is not None:
        return since
    ends_later = now - series.timeframe.length_s + 1
    try:
        last = store.contents(series, _FAR).last
    except FileNotFoundError:
        last = None
    return ends_later if last is None else max(last + 1, ends_later)


def followed(
    store: BarStore, following: Following, timeout_s: float | None = None
) -> Iterator[FinishedBar]:
    """New bars, until none has come for `timeout_s` (None: for ever)."""
    changed = threading.Event()
    watch = FolderWatch(store.folder, lambda _names: changed.set())
    watch.start()
    try:
        quiet_since = time.monotonic()
        while True:
            changed.clear()
            bars = following.new_bars()
            yield from bars
            if bars:
                quiet_since = time.monotonic()
            wait_s = _POLL_S
            if timeout_s is not None:
                wait_s = min(wait_s, quiet_since + timeout_s - time.monotonic())
            if wait_s <= 0:
                return
            changed.wait(wait_s)
    finally:
        watch.stop()


def _finished(bar: Bar, series: Series) -> FinishedBar:
    start, *values = bar
    moment = datetime.fromtimestamp(start, UTC)
    return FinishedBar(series.symbol, series.timeframe.value, moment, *values)
