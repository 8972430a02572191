"""How long the grid of 500 series and 365 days takes, and how large it is.

Cold: no row is known. Changed: one series has changed. Warm: nothing has. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ktrdr.assessment.series_state import Assessment, Basis, SeriesState
from ktrdr.completeness.coverage import Coverage, compute_coverage
from ktrdr.gap_filler.coverage_grid import CoverageGrids
from ktrdr.gap_filler.report import StoreSnapshot
from ktrdr.ipc.codec import to_text
from ktrdr.market.instruments import instrument_for, parse_series
from ktrdr.market.sessions import Expected, Schedule, Session
from ktrdr.market.timeframes import DAY_S
from ktrdr.store.csv_store import CsvStore

TODAY = 20_600 * DAY_S
NOW = TODAY + 60_000.0


def schedule_of(days: int) -> Schedule:
    """Six and a half hours a day, five days a week."""
    opens = [TODAY - back * DAY_S for back in reversed(range(days)) if back % 7 not in (1, 2)]
    sessions = tuple(Session(day + 52_200, day + 75_600, day) for day in opens)
    return Schedule("UTC", TODAY - days * DAY_S, TODAY + 7 * DAY_S, sessions)


def coverage_of(schedule: Schedule, seed: int) -> Coverage:
    """Thirteen bars a day, of which one in a hundred is missing."""
    opens, _, days, _ = schedule.columns
    starts = np.add.outer(opens, np.arange(13) * 1800).ravel()
    there = starts[np.random.default_rng(seed).random(len(starts)) > 0.01]
    none = there[:0]
    expected = Expected(starts, np.repeat(days, 13))
    return compute_coverage(expected, there, none, none, 0, (int(opens[0]), int(NOW)))


def state_of(number: int, schedule: Schedule, store: CsvStore) -> SeriesState:
    """One series."""
    series = parse_series(f"S{number:03}_30m.csv")
    assessment = Assessment(coverage_of(schedule, number), basis=Basis(schedule))
    return SeriesState(series, instrument_for(series.symbol), store, assessment=assessment)


def measure(series: int, days: int) -> dict[str, float]:
    """Milliseconds, and bytes."""
    schedule, store = schedule_of(days), CsvStore(Path("/nonexistent"))
    states = [state_of(number, schedule, store) for number in range(series)]
    grids, took = CoverageGrids(30), {}
    for what in ("cold", "warm", "changed", "warm_again"):
        if what == "changed":
            first = states[0]
            first.assessment = replace(first.assessment, coverage=coverage_of(schedule, 9999))
        known = StoreSnapshot({one.series: one.snapshot for one in states})
        began = time.perf_counter()
        text = to_text(grids.grid(known, (None, None), NOW, is_held=False))
        took[f"{what}_ms"] = round(1000 * (time.perf_counter() - began), 1)
    return took | {"bytes": len(text), "gzip_bytes": len(gzip.compress(text, 6))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    print(json.dumps(measure(given.series, given.days)))
