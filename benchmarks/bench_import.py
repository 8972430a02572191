"""How fast `ktrdr import` is beside pandas that reads the same file, and how much memory it takes.

A year of forex minutes (375,840 rows, 22 MB), and with `--large` a file of 1 GB. Prints a table and
a line of JSON, with the targets beside the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ktrdr.importing.importer import Importer, Wishes
from ktrdr.market.timeframes import DAY_S, MINUTE_S

HEADER = "timestamp,open,high,low,close,volume\n"
ROWS = 375_840
LARGE_BYTES = 10**9
FRIDAY = 4
FRIDAY_MINUTES = 20 * 60 + 30
WEEK_S = FRIDAY * DAY_S + FRIDAY_MINUTES * MINUTE_S
NAME = "EURUSD_1m.csv"
PEAK = Path("/proc/self/status")


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    value: float
    unit: str
    target: str


def rows(count: int) -> pd.DataFrame:
    """Minutes from Monday to Friday at 20:30 UTC, with prices of five digits."""
    last = int(time.time()) // DAY_S * DAY_S
    every = np.arange(last - (count * 2 // 1440 + 8) * DAY_S, last, MINUTE_S)
    starts = every[(every + 3 * DAY_S) % (7 * DAY_S) < WEEK_S][-count:]
    chance = np.random.default_rng(2026)
    close = np.round(1.08523 + np.cumsum(chance.normal(0, 1e-5, count)), 5)
    first = np.append(close[0], close[:-1])
    high = np.round(np.maximum(first, close) + 3e-5, 5)
    low = np.round(np.minimum(first, close) - 3e-5, 5)
    times = pd.to_datetime(starts, unit="s", utc=True).strftime("%Y-%m-%d %H:%M:%S+00:00")
    names = ("timestamp", "open", "high", "low", "close")
    columns = (times, first, high, low, close)
    return pd.DataFrame(dict(zip(names, columns, strict=True))).assign(volume=-1)


def best(times: int, action: Callable[[int], object]) -> float:
    """Seconds of the fastest of some runs."""
    taken = []
    for number in range(times):
        begin = time.perf_counter()
        action(number)
        taken.append(time.perf_counter() - begin)
    return min(taken)


def import_into(folder: Path, path: Path) -> None:
    """Import the file into a new store."""
    found = Importer(folder, Wishes(), time.time).run(path, NAME)
    if found.error:
        raise found.error


def speed_figures(folder: Path, times: int) -> Iterator[Figure]:
    """A year of minutes, beside pandas in the same run."""
    path = folder / NAME
    rows(ROWS).to_csv(path, index=False)
    pandas_s = best(times, lambda _: pd.read_csv(path, parse_dates=["timestamp"]))
    import_s = best(times, lambda number: import_into(folder / str(number), path))
    yield Figure("rows a second, a year of minutes", ROWS / import_s / 1e6, "M/s", ">= 1")
    yield Figure("import: pandas' reading of that file", import_s / pandas_s, "times", "<= 2")
    yield Figure("rows a second that pandas reads", ROWS / pandas_s / 1e6, "M/s", "")


def memory_figure(folder: Path) -> Figure:
    """The most memory that the import of a file of 1 GB takes, in a process of its own."""
    path = folder / NAME
    clocks = (f"{minute // 60:02}:{minute % 60:02}:00+00:00" for minute in range(24 * 60))
    minutes = [f"DAY {clock},1.08523,1.08526,1.0852,1.08524,-1\n" for clock in clocks]
    day, friday = "".join(minutes), "".join(minutes[:FRIDAY_MINUTES])
    last = pd.Timestamp.now().normalize() - pd.Timedelta(days=1)
    days = pd.bdate_range(end=last, periods=LARGE_BYTES // len(day) + 1)
    with path.open("w") as file:
        file.write(HEADER)
        for one in days:
            text = friday if one.weekday() == FRIDAY else day
            file.write(text.replace("DAY", f"{one:%Y-%m-%d}"))
    command = [sys.executable, __file__, "--peak", str(folder), str(path)]
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    rows_s = len(days) * 24 * 60 / (time.perf_counter() - begin)
    name = f"memory, a file of {path.stat().st_size / 1e9:.2f} GB ({rows_s / 1e6:.2f} M rows/s)"
    return Figure(name, int(done.stdout) / 2**20, "MiB", "<= 200")


def print_peak(folder: Path, path: Path) -> None:
    """The most memory that this process has had, in bytes."""
    import_into(folder / "peak", path)
    (line,) = (line for line in PEAK.read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) * 1024)


def main() -> None:
    """Run everything and print it."""
    if sys.argv[1:2] == ["--peak"]:
        print_peak(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as scratch:
        figures = list(speed_figures(Path(scratch), 5))
        if "--large" in sys.argv:
            figures.append(memory_figure(Path(scratch)))
        for figure in figures:
            print(f"{figure.name:52} {figure.value:9.3f} {figure.unit:6} target {figure.target}")
        print(json.dumps([figure._asdict() for figure in figures]))


if __name__ == "__main__":
    main()
