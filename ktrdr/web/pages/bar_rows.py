"""Bars of the store as rows of a table, for those who see no chart. Writes nothing.

pandas is imported when bars are first read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError
from ktrdr.ipc.messages import DayStatus

_KEPT = 64
"""Tables in memory: one for each page that somebody looks at."""


class BarRow(NamedTuple):
    """One bar; its start is in UTC."""

    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


class BarRows(NamedTuple):
    """Bars, oldest first; or why they cannot be read."""

    rows: Sequence[BarRow]
    reason: str = ""


Version = tuple[int, int, int] | None
"""Size, time of change and inode of a file: another file has other bars."""


class Reader:
    """Reads bars of one store, and keeps what was read while the file stays the same."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept = lru_cache(_KEPT)(self._read)

    def rows(
        self, symbol: str, timeframe: str, start: str | None, end: str | None, version: Version
    ) -> BarRows:
        """The bars in `[start, end)`, in ISO 8601, of a file in this version."""
        if version is None:
            return self._read(symbol, timeframe, start, end, version)
        return self._kept(symbol, timeframe, start, end, version)

    def _read(
        self, symbol: str, timeframe: str, start: str | None, end: str | None, _: Version
    ) -> BarRows:
        from ktrdr.data.data_manager import DataManager  # noqa: PLC0415 - 100 MiB that few need

        try:
            found = DataManager(self._settings).load(symbol, timeframe, start, end)
        except KtrdrError as error:
            return BarRows((), error.message)
        values = found[["open", "high", "low", "close", "volume"]].to_numpy().tolist()
        starts = found.index.to_list()
        return BarRows([BarRow(when, *row) for when, row in zip(starts, values, strict=True)])


def begin_of_newest(days: Sequence[DayStatus], bars: int) -> str | None:
    """The first of the newest trading days that have this many bars; None: no day is known."""
    found = 0
    for day in reversed(days):
        found += day.present
        if found >= bars:
            return day.date
    return days[0].date if days else None


def day_after(day: datetime | date) -> str:
    """The day after, in ISO 8601."""
    return (date(day.year, day.month, day.day) + timedelta(days=1)).isoformat()
