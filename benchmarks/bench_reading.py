"""How fast `DataManager.load` is beside pandas with pyarrow, on the same bytes in one run.

A year of forex minutes (375,840 rows, 22 MB) that is complete, and a gap filler's answer in another
process says so. Prints a table and a line of JSON, with the targets beside the figures.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil

from ktrdr.assessment.series_state import Basis, SeriesSnapshot
from ktrdr.completeness.coverage import compute_coverage
from ktrdr.completeness.differences import ComparedBars
from ktrdr.config.settings import Settings, load_settings
from ktrdr.data.data_manager import DataManager
from ktrdr.gap_filler.report import StoreSnapshot, gaps_within
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import DetailedCoverage, Json
from ktrdr.ipc.query import interval_from_text
from ktrdr.ipc.server import LocalServer
from ktrdr.market.instruments import Series, instrument_for
from ktrdr.market.sessions import Expected
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.store.csv_store import CsvStore

HEADER = "timestamp,open,high,low,close,volume\n"
NOW = int(time.time()) // DAY_S * DAY_S
DAYS = 261
SYMBOLS = [f"FX{number}" for number in range(10)]
WHOLE = "EURUSD"
PEAK = Path("/proc/self/status")


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    value: float
    unit: str
    target: str
    how: str = ""


# The store, and the gap filler.


def year_of_minutes() -> list[str]:
    """Weekdays, with prices of five digits."""
    chance, price, lines = random.Random(2026), 1.08523, []
    weekdays = [d for d in range(NOW - 400 * DAY_S, NOW, DAY_S) if _weekday(d) < 5]
    for day in weekdays[-DAYS:]:
        for start in range(day, day + DAY_S, 60):
            close = price + chance.gauss(0, 8e-5)
            high = max(price, close) + abs(chance.gauss(0, 3e-5))
            low = min(price, close) - abs(chance.gauss(0, 3e-5))
            digits = ",".join(repr(round(value, 5)) for value in (price, high, low, close))
            lines.append(f"{datetime.fromtimestamp(start, UTC).isoformat(' ')},{digits},-1\n")
            price = close
    return lines


def _weekday(day: int) -> int:
    return datetime.fromtimestamp(day, UTC).weekday()


def make_store(folder: Path) -> None:
    """The whole year, and ten symbols that each lack some minutes of it."""
    chance, lines = random.Random(1), year_of_minutes()
    for symbol in (WHOLE, *SYMBOLS):
        share = 1.0 if symbol == WHOLE else 0.9995
        kept = [line for line in lines if chance.random() < share]
        (folder / f"{symbol}_1m.csv").write_text(HEADER + "".join(kept))
    time.sleep(0.1)  # a file that was written just now may change unnoticed
    store = CsvStore(folder, indexed=True)
    store.claim("live")
    for symbol in (WHOLE, *SYMBOLS):
        store.verify(Series(symbol, Timeframe.M1))
    store.close()


def serve(settings: Settings, ready: Any) -> None:
    """Answer about coverage as a gap filler does that has found every series complete."""
    store = CsvStore(settings.data_dir)
    snapshots = {symbol: _snapshot(store, symbol) for symbol in (WHOLE, *SYMBOLS)}

    async def coverage(query: Any) -> Json:
        one = snapshots[query["symbol"]]

        def made() -> Json:
            span = interval_from_text("gaps", query["gaps"])
            return to_json(DetailedCoverage([gaps_within(one, StoreSnapshot(), span)]))

        return await asyncio.to_thread(made)

    async def run() -> None:
        await LocalServer(settings.gap_filler_socket, {("GET", "/coverage"): coverage}).start()
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(run())


def _snapshot(store: CsvStore, symbol: str) -> SeriesSnapshot:
    series = Series(symbol, Timeframe.M1)
    found = store.verify(series)
    starts, nothing = found.starts, found.starts[:0]
    assert found.first is not None
    known = (found.first, int(time.time()) + DAY_S)
    expected = Expected(starts, starts - starts % DAY_S)
    whole = compute_coverage(expected, starts, nothing, nothing, 0, known)
    return SeriesSnapshot(
        series,
        instrument_for(symbol),
        store,
        whole,
        past=None,
        is_past_known=True,
        key=found.key,
        first=found.first,
        last=found.last,
        is_owned=True,
        error=None,
        incomplete=None,
        retry_at=0.0,
        is_rebuilding=False,
        next_due=None,
        basis=Basis(),
        compared=ComparedBars(),
    )


# The figures.


def once(run: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def best_of_both(
    ours: Callable[[], Any], other: Callable[[], Any], times: int
) -> tuple[float, float]:
    """Seconds of the fastest run of each, which take turns."""
    pairs = [(once(ours), once(other)) for _ in range(times)]
    return min(one for one, _ in pairs), min(one for _, one in pairs)


def read_by_pandas(path: Path) -> pd.DataFrame:
    """What people would write instead."""
    return pd.read_csv(path, engine="pyarrow").set_index("timestamp")


def load_figures(settings: Settings, times: int) -> Iterator[Figure]:
    """Three intervals of the year, by a new DataManager each."""
    path = settings.data_dir / f"{WHOLE}_1m.csv"
    whole = read_by_pandas(path)
    assert whole.index.dtype == "datetime64[s, UTC]"
    end = whole.index[-1] + pd.Timedelta(minutes=1)
    windows = (("a year", 400, 1.0), ("30 days", 30, 0.15), ("a day", 1, 0.05))
    for name, days, target in windows:
        start = end - pd.Timedelta(days=days)

        def load(start: pd.Timestamp = start) -> pd.DataFrame:
            since = None if start < whole.index[0] else start
            return DataManager(settings).load(WHOLE, "1m", start=since)

        found = load()
        wanted = whole.loc[start:].astype({"volume": np.float64})
        assert found.attrs["complete"] is True, found.attrs
        found.attrs = {}
        pd.testing.assert_frame_equal(found, wanted, check_exact=True)
        ours_s, other_s = best_of_both(load, lambda: read_by_pandas(path), times)
        how = f"{ours_s * 1e3:.1f} ms, {other_s * 1e3:.1f} ms"
        yield Figure(f"{name} of minutes, complete: read_csv(engine='pyarrow') of the file",
                     ours_s / other_s, "times", f"<= {target:g}", how)  # fmt: skip


def together_figures(settings: Settings, times: int) -> Iterator[Figure]:
    """Ten symbols in one frame, for a year and for 30 days."""
    for name, days in (("a year", None), ("30 days", 30)):
        since = None if days is None else pd.Timestamp(NOW - days * DAY_S, unit="s", tz="UTC")

        def together(since: Any = since) -> pd.DataFrame:
            return DataManager(settings).load(SYMBOLS, "1m", start=since)

        def singly(since: Any = since) -> list[pd.DataFrame]:
            manager = DataManager(settings)
            return [manager.load(symbol, "1m", start=since) for symbol in SYMBOLS]

        together_s, singly_s = best_of_both(together, singly, times)
        how = f"{together_s * 1e3:.0f} ms, {singly_s * 1e3:.0f} ms"
        yield Figure(f"ten symbols side by side, {name}: ten loads", together_s / singly_s,
                     "times", "<= 1.2", how)  # fmt: skip


def memory_figures(settings: Settings) -> Iterator[Figure]:
    """The peak of a process of its own that loads the year."""
    command = [sys.executable, __file__, "--peak", str(settings.data_dir)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    growth, frame = map(int, done.stdout.split())
    how = f"{growth / 2**20:.1f} MiB, {frame / 2**20:.1f} MiB"
    yield Figure("memory of a load of a year, at its peak: the frame", growth / frame, "times",
                 "<= 2", how)  # fmt: skip


def print_peak(folder: Path) -> None:
    """Bytes by which a load of the year makes this process grow, and those of the frame."""
    manager = DataManager(settings_for(folder))
    manager.load(WHOLE, "1m", start=pd.Timestamp(NOW - 3 * DAY_S, unit="s", tz="UTC"))
    before = psutil.Process().memory_info().rss
    frame = manager.load(WHOLE, "1m")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if sys.platform == "linux":  # where that one begins with the peak of the parent
        (line,) = (line for line in PEAK.read_text().splitlines() if line.startswith("VmHWM"))
        peak = int(line.split()[1]) * 1024
    print(peak - before, int(frame.memory_usage(index=True).sum()))


def settings_for(folder: Path) -> Settings:
    """Of a group in a folder of its own."""
    return load_settings(_env_file=None, ktrdr_data_dir=folder, ktrdr_run_dir=folder / "run")


def main() -> None:
    """Run everything and print it."""
    if sys.argv[1:2] == ["--peak"]:
        print_peak(Path(sys.argv[2]))
        return
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as scratch:
        settings = settings_for(Path(scratch))
        make_store(settings.data_dir)
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        gap_filler = context.Process(target=serve, args=(settings, ready), daemon=True)
        gap_filler.start()
        assert ready.wait(60)
        figures = []
        parts = (
            load_figures(settings, times),
            together_figures(settings, max(2, times // 3)),
            memory_figures(settings),
        )
        for part in parts:
            for figure in part:
                figures.append(figure)
                print(f"{figure.name:72} {figure.value:7.3f} {figure.unit:6}"
                      f" target {figure.target:8} {figure.how}", flush=True)  # fmt: skip
        gap_filler.terminate()
        gap_filler.join()
        print(json.dumps([figure._asdict() for figure in figures]))


if __name__ == "__main__":
    main()
