"""How fast the store is scanned, extended and loaded, each figure beside a yardstick in one run.

A store is generated, always the same one: 1,400 files and 1.7 GB, or a small one. Prints a table
and a line of JSON, with the targets beside the figures; a slow day is no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from scan_store import NOW, due, forget, scan, scan_from_the_start

from ktrdr.config.settings import load_settings
from ktrdr.data.data_manager import DataManager
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.store.csv_store import CsvStore

HEADER = "timestamp,open,high,low,close,volume\n"
YEARS = {"1m": 0.95, "5m": 0.95, "15m": 1.5, "30m": 2, "1h": 3, "4h": 5, "1d": 10}
YEAR_OF_MINUTES = Series("BTCUSD", Timeframe.M1)
"""Beside the others, without a pause in it."""
VARIANTS = 8
"""Different contents for each timeframe: the files of a timeframe are copies of these."""


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    value: float
    unit: str
    target: str
    how: str = ""


def once(run: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def best(run: Callable[[], Any], times: int) -> float:
    """Seconds of the fastest of some runs."""
    return min(once(run) for _ in range(times))


# The store.


def content(starts: Iterable[int], chance: random.Random) -> str:
    """Rows of a price that goes up and down."""
    lines, price = [HEADER], 200.0
    for start in starts:
        price = max(1.0, price + chance.gauss(0, 0.05))
        first, low, high = round(price, 2), round(price - 0.05, 2), round(price + 0.06, 2)
        stamp = datetime.fromtimestamp(start, UTC).isoformat(" ")
        volume = chance.randrange(100_000)
        lines.append(f"{stamp},{first!r},{high!r},{low!r},{round(price + 0.01, 2)!r},{volume}\n")
    return "".join(lines)


def make_store(folder: Path, symbols: int) -> list[Series]:
    """Seven files of each symbol, with a hole now and then, and a long one."""
    chance = random.Random(2026)
    made = []
    for timeframe in Timeframe:
        since = NOW - int(YEARS[timeframe.value] * 365 * DAY_S)
        starts = due(Series("S000", timeframe), since).tolist()
        variants = []
        for _ in range(VARIANTS):
            kept = [start for start in starts if chance.random() > 0.0005]
            variants.append(content(kept, chance).encode())
        for number in range(symbols):
            series = Series(f"S{number:03}", timeframe)
            (folder / series.file_name).write_bytes(variants[number % VARIANTS])
            made.append(series)
    text = content(range(NOW - 365 * DAY_S, NOW, 60), chance)
    (folder / YEAR_OF_MINUTES.file_name).write_text(text)
    return [*made, YEAR_OF_MINUTES]


def age(folder: Path) -> None:
    """As if nothing had been written lately."""
    for path in folder.glob("*.csv"):
        old = path.stat().st_mtime_ns - 60_000_000_000
        os.utime(path, ns=(old, old))


def read_bytes(folder: Path) -> int:
    """Every byte of the store, as cheaply as it can be had."""
    total, buffer = 0, bytearray(1 << 20)
    for path in folder.glob("*.csv"):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total


def stat_all(folder: Path) -> int:
    """The cheapest look at every file that there is."""
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.name.endswith(".csv"))


# Scanning.

NAIVE = """
import sys, pandas, pathlib
for path in pathlib.Path(sys.argv[1]).glob("*.csv"):
    assert len(pandas.read_csv(path, index_col=0, parse_dates=True))
"""
"""What most programs of this kind do."""


def process(*arguments: str) -> tuple[float, str]:
    """Seconds of a whole process, and what it prints."""
    began = time.perf_counter()
    run = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - began, run.stdout.decode()


def cold_figures(folder: Path, made: list[Series]) -> Iterator[Figure]:
    """A store that was never looked at."""
    read_bytes(folder)  # into the page cache
    forget(folder)
    script = str(Path(__file__).with_name("scan_store.py"))
    cold_s, peak = process(script, str(folder))
    naive_s, _ = process("-c", NAIVE, str(folder))
    how = f"{cold_s:.2f} s, {naive_s:.1f} s"
    yield Figure("cold scan, whole process: read_csv of each file", naive_s / cold_s,
                 "times faster", ">= 60", how)  # fmt: skip
    yield Figure("its peak", float(peak), "MiB", "<= 60")

    def cold() -> None:
        forget(folder)
        scan_from_the_start(folder)

    raw_s, windowed_s = best(lambda: read_bytes(folder), 5), best(cold, 4)
    how = f"{windowed_s * 1e3:.0f} ms, {raw_s * 1e3:.0f} ms"
    yield Figure("cold scan, in process: reading the bytes", windowed_s / raw_s, "times",
                 "<= 5", how)  # fmt: skip
    store = CsvStore(folder)
    verified_s = best(lambda: [store.verify(series) for series in made], 3)
    yield Figure("every row verified: reading the bytes", verified_s / raw_s, "times",
                 "<= 16", f"{verified_s * 1e3:.0f} ms")  # fmt: skip


def warm_figures(folder: Path, made: list[Series]) -> Iterator[Figure]:
    """The same store again."""
    age(folder)
    scan_from_the_start(folder)
    store = CsvStore(folder, indexed=True)
    scan(store)
    stat_s, again_s = best(lambda: stat_all(folder), 15), best(lambda: scan(store), 15)
    begun_s = best(lambda: scan_from_the_start(folder), 9)
    how = f"{again_s * 1e3:.1f} ms, {stat_s * 1e3:.1f} ms; by a new process {begun_s * 1e3:.1f} ms"
    yield Figure("scan again, nothing changed: scandir and stat", again_s / stat_s, "times",
                 "<= 2.5", how)  # fmt: skip
    some = random.Random(1).sample(made[:-1], max(1, len(made) // 100))
    taken = []
    for _ in range(9):
        for series in some:
            path = folder / series.file_name
            now = path.stat().st_mtime_ns + 1_000_001
            os.utime(path, ns=(now, now))
        taken.append(once(lambda: scan(store)))
    how = f"{min(taken) * 1e3:.1f} ms, {len(some)} files"
    yield Figure("scan again, 1 % changed: scandir and stat", min(taken) / stat_s, "times",
                 "<= 4", how)  # fmt: skip
    store.close()


# Writing.


def bars_from(start: int, count: int = 60) -> list[Bar]:
    """Some minutes."""
    return [Bar(start + 60 * i, 200.25, 200.5, 200.0, 200.31, 1200 + i) for i in range(count)]


def copy_whole(path: Path) -> None:
    """A copy in the place of the file, whole at every moment."""
    temporary = path.with_suffix(".copy")
    shutil.copyfile(path, temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def sync_100_bytes(descriptor: int) -> None:
    """The least that a durable write can be."""
    os.write(descriptor, b"x" * 100)
    os.fdatasync(descriptor)


def naive_splice(path: Path, at: int) -> None:
    """What most programs of this kind do to add rows."""
    frame = pd.read_csv(path, index_col=0, parse_dates=True)
    stamps = pd.to_datetime([bar.start for bar in bars_from(at)], unit="s", utc=True)
    new = pd.DataFrame(dict.fromkeys(frame.columns, 1.0), index=stamps)
    pd.concat([frame, new]).sort_index().to_csv(path)


class Written:
    """A file to write to: half of it, a pause of 40 hours, and the other half."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.series = Series(f"W{rows}", Timeframe.M1)
        first = NOW - rows * 60
        self.pause = first + rows * 30
        self.end = NOW + 40 * 3600
        starts = [*range(first, self.pause, 60), *range(self.pause + 40 * 3600, self.end, 60)]
        self.path = folder / self.series.file_name
        self.path.write_text(content(starts, random.Random(rows)))
        self.store = CsvStore(folder, indexed=True)
        self.store.verify(self.series)

    def append(self) -> float:
        """Seconds for 60 rows at the end."""
        bars = bars_from(self.end)
        self.end += 3600
        return once(lambda: self.store.add(self.series, bars))

    def splice(self) -> float:
        """Seconds for 60 rows in the middle."""
        bars = bars_from(self.pause)
        self.pause += 3600
        return once(lambda: self.store.add(self.series, bars))


def write_figures(folder: Path) -> Iterator[Figure]:
    """At the end, and in the middle, of files of three sizes."""
    small = os.open(folder / "small", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for rows in (18_000, 50_000, 240_000):
        file = Written(folder, rows)
        megabytes = f"{file.path.stat().st_size / 1e6:.1f} MB"
        pairs = [(file.append(), once(lambda: sync_100_bytes(small))) for _ in range(120)]
        ours_s, least_s = (statistics.median(times) for times in zip(*pairs, strict=True))
        how = f"{ours_s * 1e3:.2f} ms, {least_s * 1e3:.2f} ms"
        yield Figure(f"append of 60 rows, {megabytes}: fdatasync of 100 bytes", ours_s / least_s,
                     "times", "<= 4", how)  # fmt: skip
        path = file.path
        pairs = [(file.splice(), once(lambda path=path: copy_whole(path))) for _ in range(20)]  # type: ignore[misc]
        ours_s, raw_s = (statistics.median(times) for times in zip(*pairs, strict=True))
        file.store.close()
        how = f"{ours_s * 1e3:.1f} ms, {raw_s * 1e3:.1f} ms"
        yield Figure(f"splice of 60 rows, {megabytes}: atomic raw copy", ours_s / raw_s, "times",
                     "<= 2", how)  # fmt: skip
        naive_s = min(once(lambda path=path: naive_splice(path, NOW)) for _ in range(2))  # type: ignore[misc]
        yield Figure("the same: load, concat, to_csv", naive_s / ours_s, "times faster",
                     ">= 40", f"{naive_s * 1e3:.0f} ms")  # fmt: skip
    os.close(small)


# Loading.


def load_figures(folder: Path) -> Iterator[Figure]:
    """Windows of a year of minutes that the gap filler has looked at, by a new DataManager each."""
    series = YEAR_OF_MINUTES
    scanned = CsvStore(folder, indexed=True)
    scanned.verify(series)
    scanned.close()
    settings = load_settings(_env_file=None, ktrdr_data_dir=folder, ktrdr_run_dir=folder / "run")
    now = pd.Timestamp(NOW, unit="s", tz="UTC")
    windows = (("1 day", 1, 150, 15), ("30 days", 30, 50, 9), ("a year", 365, 6, 4))
    for name, days, target, times in windows:
        start = now - pd.Timedelta(days=days)

        def naive(start: pd.Timestamp = start) -> int:
            frame = pd.read_csv(folder / series.file_name, index_col=0, parse_dates=True)
            return len(frame.loc[start:])

        def load(start: pd.Timestamp = start) -> int:
            return len(DataManager(settings).load(series.symbol, "1m", start=start))

        assert naive() == load()
        naive_s, load_s = best(naive, 2), best(load, times)
        how = f"{load_s * 1e3:.1f} ms, {naive_s * 1e3:.0f} ms"
        yield Figure(f"load of {name} of minutes: read_csv", naive_s / load_s, "times faster",
                     f">= {target}", how)  # fmt: skip


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=200, help="with seven files each")
    symbols = parser.parse_args().symbols
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as scratch:
        folder, writes = Path(scratch) / "store", Path(scratch) / "writes"
        folder.mkdir()
        writes.mkdir()
        made = make_store(folder, symbols)
        age(folder)
        print(f"{len(made)} files, {read_bytes(folder) / 1e6:.0f} MB")
        parts = (
            cold_figures(folder, made),
            warm_figures(folder, made),
            write_figures(writes),
            load_figures(folder),
        )
        figures = []
        for part in parts:
            for figure in part:
                figures.append(figure)
                print(f"{figure.name:58} {figure.value:8.2f} {figure.unit:13}"
                      f" target {figure.target:7} {figure.how}", flush=True)  # fmt: skip
        print(json.dumps([figure._asdict() for figure in figures]))


if __name__ == "__main__":
    main()
