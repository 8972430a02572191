"""Looks at a store as the gap filler does, and counts its holes of the last 30 days; no yardstick.

A module of its own, so that a process that only scans can be measured: it loads no pandas.
"""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

from ktrdr.completeness.gaps import missing
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array, Schedule, expected
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.market.usual_sessions import by_rules
from ktrdr.store.csv_store import CsvStore

NOW = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp())
SINCE = NOW - 30 * DAY_S
ALIGNMENT = frozenset({570, 810})
"""Where the four-hour bars of stocks begin in New York: 09:30 and 13:30."""
_NO_BARS = np.empty(0, np.int64)


def due(series: Series, since: int) -> Int64Array:
    """The bars that the generated market has had."""
    schedule = sessions("CRYPTO" if series.symbol == "BTCUSD" else "STK", since)
    alignment = ALIGNMENT if series.timeframe is Timeframe.H4 else frozenset[int]()
    return expected(schedule, series.timeframe, since, NOW, NOW, alignment=alignment).starts


@cache
def sessions(kind: str, since: int) -> Schedule:
    """Made once, as the gap filler keeps them."""
    return by_rules(kind, since, NOW)


def scan(store: CsvStore) -> int:
    """Look at what changed; how many holes that has."""
    grids: dict[tuple[bool, Timeframe], Int64Array] = {}
    holes = 0
    for series in store.scan().changed:
        place = series.symbol == "BTCUSD", series.timeframe
        if place not in grids:
            grids[place] = due(series, SINCE)
        seen = store.contents(series, SINCE).starts
        holes += len(missing(grids[place], seen, _NO_BARS))
    return holes


def scan_from_the_start(folder: Path) -> int:
    """The same, by a process that begins: with the index that another has left."""
    store = CsvStore(folder, indexed=True)
    holes = scan(store)
    store.close()
    return holes


def forget(folder: Path) -> None:
    """As if the store had never been looked at."""
    shutil.rmtree(folder / ".ktrdr", ignore_errors=True)


def peak_mib() -> float:
    """The most that this process has had in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    scan_from_the_start(Path(sys.argv[1]))
    print(peak_mib())
