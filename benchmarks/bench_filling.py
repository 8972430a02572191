"""How completely, with how few requests and how fast a store is filled, beside two yardsticks.

The gateway runs in a process of its own, with a clock that begins on a Saturday after
Thanksgiving, so that the 30 days before it hold a change of the clocks, a holiday and a half day.
Yardstick 1 knows every hole beforehand, and asks one request a series, 45 in flight: about what
is attainable. Yardstick 2 is the careful loop that a user would write: one request after the
other, from the last bar on, in the steps of IB's table. Prints tables and a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ib_library import IB, Contract

from ktrdr.completeness.gaps import FILLABLE
from ktrdr.config.settings import load_settings
from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager, routes
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import SeriesCoverage
from ktrdr.ipc.server import LocalServer
from ktrdr.market.instruments import instrument_for
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.market.market import truth

HEADER = "timestamp,open,high,low,close,volume\n"
SATURDAY = datetime(2026, 11, 28, 15, tzinfo=UTC)
WEDNESDAY = datetime(2026, 11, 18, 15, 2, 30, tzinfo=UTC)
DAYS = 30
SPAN_DAYS = {"1m": 5, "5m": 31, "15m": 90, "30m": 90, "1h": 180, "4h": 365, "1d": 7300}
"""In one request, of a market without pauses: so much was IB seen to answer in half a minute."""
REGULAR_HOURS = 2.5
"""So many times as much of stocks, in bars of an hour or less: they have a quarter of the bars."""
STEPS = {"1m": 1, "5m": 7, "15m": 14, "30m": 30, "1h": 30, "4h": 30, "1d": 365}
"""Days in one request of the second yardstick: IB's table of steps by bar size."""
TOML = '[BTC]\nsec_type = "CRYPTO"\n[ETH]\nsec_type = "CRYPTO"\n'
CRYPTO = {"BTC": {"sec_type": "CRYPTO"}, "ETH": {"sec_type": "CRYPTO"}}
STORE = {
    "AAPL": "1m 5m 15m 30m 1h 4h 1d",
    "MSFT": "1m 5m 1d",
    "SPY": "1m 1h",
    "NVDA": "15m",
    "ILLIQ": "1m 5m 1h",
    "FLATV": "1m",
    "FRESH": "1m 1d",
    "EURUSD": "1m 5m 15m 30m 1h 4h 1d",
    "USDJPY": "1m 1h",
    "GBPUSD": "5m",
    "ESZ6": "1m 5m 30m 4h 1d",
    "CLF7": "1h",
    "BTC": "1m 15m 1h 1d",
    "ETH": "5m",
}
LOOK_S = 0.1
PECULIAR = ("ILLIQ", "FLATV")
"""Of which nobody knows beforehand which minutes have bars: all of them are to be asked for."""


@dataclass
class Series:
    """One file, what belongs into it, and what was cut out."""

    symbol: str
    timeframe: str
    rows: list[tuple[float, ...]]
    missing: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`AAPL_1m`."""
        return f"{self.symbol}_{self.timeframe}"


# The gateway.


def gateway_process(pipe: Connection, start: datetime, options: dict[str, Any]) -> None:
    """Serve, and do what comes through the pipe, until it is told to end."""
    with running_gateway(start=start, **options) as gateway:
        pipe.send(gateway.port)
        while (command := pipe.recv()) is not None:
            name, values = command
            if name == "summary":
                pipe.send(gateway.summary())
            elif name == "record":
                pipe.send(gateway.record)
            elif name == "now":
                pipe.send(gateway.now())
            else:
                gateway.begin_fault(name, **values)
                pipe.send(None)


@dataclass
class Gateway:
    """A gateway in a process of its own."""

    port: int
    pipe: Connection

    def ask(self, command: str, **values: Any) -> Any:
        """`summary`, `record`, `now` (its time), or a fault to begin."""
        self.pipe.send((command, values))
        return self.pipe.recv()


@contextlib.contextmanager
def gateway(start: datetime, options: dict[str, Any]) -> Iterator[Gateway]:
    """It serves while the block lasts."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=gateway_process, args=(theirs, start, options))
    process.start()
    theirs.close()  # so that its end is noticed
    try:
        yield Gateway(ours.recv(), ours)
    finally:
        ours.send(None)
        process.join(10)


# The store.


def known_rows(symbol: str, timeframe: str, now: datetime, days: int) -> list[tuple[float, ...]]:
    """What the market traded in the days that are kept complete, all of it finished."""
    first = int((now - timedelta(days=days)).replace(hour=0, minute=0, second=0).timestamp())
    length, last = Timeframe.parse(timeframe).length_s, int(now.timestamp())
    rows = truth(symbol, timeframe, first, last, today=now.date())
    return [row for row in rows if row[0] + length <= last]


def cut(series: Series, number: int) -> list[tuple[float, ...]]:
    """What stays: single bars, hours, days and the tail are gone, of some series everything."""
    rows = series.rows
    if number % 8 == 7:
        kept: list[tuple[float, ...]] = []
    else:
        days = sorted({int(row[0]) // 86400 for row in rows})
        gone = {day for place, day in enumerate(days) if place % 9 == 4}
        kept = []
        for place, row in enumerate(rows):
            is_single = place % 97 == number % 97
            is_hour = place % 500 in range(100, 160)
            if int(row[0]) // 86400 not in gone and not is_single and not is_hour:
                kept.append(row)
        kept = kept[: -max(len(kept) // 12, 1)]
    there = {row[0] for row in kept}
    series.missing = [int(row[0]) for row in rows if row[0] not in there]
    return kept


def write(folder: Path, series: Series, rows: Sequence[tuple[float, ...]]) -> None:
    """The file of a series."""
    lines = [
        f"{datetime.fromtimestamp(row[0], UTC).isoformat(' ')},{','.join(map(repr, row[1:]))}\n"
        for row in rows
    ]
    (folder / f"{series.name}.csv").write_text(HEADER + "".join(lines))


def read(folder: Path, series: Series) -> dict[float, tuple[float, ...]]:
    """The rows of a file by their starts."""
    with (folder / f"{series.name}.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return {
        datetime.fromisoformat(stamp).timestamp(): tuple(map(float, values))
        for stamp, *values in rows
    }


def medium_store(folder: Path) -> list[Series]:
    """40 series with holes of every kind."""
    (folder / "instruments.toml").write_text(TOML)
    made: list[Series] = []
    for symbol, timeframes in STORE.items():
        for timeframe in timeframes.split():
            series = Series(symbol, timeframe, known_rows(symbol, timeframe, SATURDAY, DAYS))
            write(folder, series, cut(series, len(made)))
            made.append(series)
    return made


def fewest(series: Series) -> int:
    """Requests that no way of asking could do without, within a span of days each."""
    span = SPAN_DAYS[series.timeframe] * 86400.0
    is_short = series.timeframe not in ("4h", "1d")
    if is_short and instrument_for(series.symbol, CRYPTO.get(series.symbol)).sec_type == "STK":
        span *= REGULAR_HOURS
    if series.symbol in PECULIAR:
        return math.ceil((DAYS + 0.7) * 86400 / span)
    count, covered = 0, -math.inf
    for start in sorted(series.missing):
        if start >= covered:
            count, covered = count + 1, start + span
    return count


# Ours.


@dataclass
class Group:
    """ib-connection and gap-filler on a clock of the benchmark's."""

    filler: GapFiller

    def fill(self, until: Callable[[GapFiller], bool], timeout_s: float = 900) -> float:
        """Step until something is so; the seconds that took.

        Whether it is, is asked for now and then: to look costs the program itself time.
        """
        began = finding = time.monotonic()
        while True:
            now = time.monotonic()
            if now - finding >= LOOK_S:
                finding = now
                if until(self.filler):
                    return now - began
            if now - began > timeout_s:
                raise SystemExit(f"not within {timeout_s:g} s: {self.filler.status}")
            if not self.filler.step():
                time.sleep(0.02)

    def scan_and_fill(self) -> None:
        """One cycle."""
        scan = self.filler.request_scan()
        self.fill(lambda filler: filler.status.last_scan_id == scan and is_complete(filler))


def is_complete(filler: GapFiller) -> bool:
    """Everything was looked at, and nothing is left that could be had."""
    status = filler.status
    return (
        status.last_scan_time is not None and status.state == "idle" and not status.gaps_remaining
    )


def known(filler: GapFiller) -> list[SeriesCoverage]:
    """What the gap filler has published of each series."""
    return filler.published.coverage_of(lambda _series: True).series


def is_restored(filler: GapFiller) -> bool:
    """Nothing that was missing at the beginning could still be had; newer bars may be due."""
    covered = [one.coverage for one in filler.published.store.series.values() if one.coverage]
    before = SATURDAY.timestamp()
    return is_looked_at(filler) and not any(
        (one.gaps.of(*FILLABLE).first < before).any() for one in covered
    )


def is_looked_at(filler: GapFiller) -> bool:
    """What should be there is known of each series."""
    published = filler.published
    return published.status.last_scan_time is not None and all(
        series.coverage is not None for series in published.store.series.values()
    )


@contextlib.contextmanager
def group(folder: Path, port: int, start: datetime, **given: Any) -> Iterator[Group]:
    """Connected, and ready to be stepped."""
    began = time.monotonic()

    def now() -> datetime:
        return start + timedelta(seconds=time.monotonic() - began)

    settings = load_settings(
        _env_file=None,
        ib_host=None,
        ktrdr_sim_port=port,
        ktrdr_run_dir=folder.with_name("run"),
        ktrdr_data_dir=folder,
        **({"ktrdr_gap_max_age_days": DAYS} | given),
    )
    manager = PersistentIbConnectionManager(settings, now=now)
    manager.start()
    server = LocalServer(settings.connection_socket, routes(manager))
    manager.call(server.start(), 5)
    connection = LocalClient(settings.connection_socket, "ib-connection")
    filler = GapFiller(settings, connection, lambda: now().timestamp())
    try:
        while not manager.is_connected:
            time.sleep(0.01)
        yield Group(filler)
    finally:
        filler.stop()
        filler.close()
        manager.call(server.stop(), 5)
        manager.stop()


def bar_requests(record: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The questions for bars, but for those by which the connection looks whether it lives."""
    return [
        (e["symbol"], e["currency"], e["local_symbol"], e["bar_size"], e["end"], e["duration"])
        for e in record
        if e["event"] == "received"
        and e["kind"] == "historical_data"
        and not (e["end"] == "" and e["bar_size"] == "1 hour" and e["duration"] == "1 D")
    ]


def ours(store: Path, all_series: list[Series], options: dict[str, Any]) -> dict[str, Any]:
    """Fill the medium store, and compare it with the market."""
    with gateway(SATURDAY, options) as peer, group(store, peer.port, SATURDAY) as ours_:
        took_s = ours_.fill(is_restored)
        ours_.fill(is_complete)
        requested = bar_requests(peer.ask("record"))
        for _ in range(3):
            ours_.scan_and_fill()
        idle = bar_requests(peer.ask("record"))[len(requested) :]
        summary = peer.ask("summary")
    left: list[str] = []
    wrong = extra = there = wanted = 0
    for series in all_series:
        found, rows = (
            read(store, series),
            {row[0]: tuple(map(float, row[1:])) for row in series.rows},
        )
        last = SATURDAY.timestamp()
        wanted += len(series.missing)
        there += sum(start in found for start in series.missing)
        wrong += sum(found[start] != row for start, row in rows.items() if start in found)
        extra += sum(start not in rows for start in found if start < last)
        lacking = sorted(set(series.missing) - found.keys())
        left += [f"{series.name} {datetime.fromtimestamp(t, UTC).isoformat()}" for t in lacking]
    least = sum(map(fewest, all_series))
    return {
        "seconds": took_s,
        "wanted": wanted,
        "restored": there,
        "left": left[:20],
        "wrong": wrong,
        "extra": extra,
        "requests": len(requested),
        "fewest": least,
        "again": len(requested) - len(set(requested)),
        "idle_again": len(requested) + len(idle) - len({*requested, *idle}),
        "idle_closed": sum(one[0] not in CRYPTO for one in idle),
        "violations": summary["violations"],
        "most_in_flight": summary["most_in_flight"],
    }


# The yardsticks.


def ib_contract(symbol: str) -> tuple[Contract, str, bool]:
    """IB's contract, what to show, and whether in regular hours alone."""
    one = instrument_for(symbol, CRYPTO.get(symbol))
    contract = Contract(
        secType=one.sec_type,
        symbol=one.ib_symbol,
        localSymbol=one.ib_local_symbol,
        exchange=one.exchange,
        currency=one.currency,
    )
    return contract, one.what_to_show, not one.extended_hours


async def ask(client: IB, series: Series, end: float, days: int) -> list[Any]:
    """So many trading days of a series, up to `end` (UTC seconds)."""
    contract, what, is_regular = ib_contract(series.symbol)
    size = Timeframe.parse(series.timeframe).ib_bar_size
    text = datetime.fromtimestamp(end, UTC).strftime("%Y%m%d-%H:%M:%S")
    return list(
        await client.reqHistoricalDataAsync(
            contract, text, f"{days} D", size, what, is_regular, 2, timeout=600
        )
    )


async def knowing(port: int, all_series: list[Series]) -> float:
    """Yardstick 1: every hole is known; one request a series, 45 in flight."""
    client = IB()
    await client.connectAsync("127.0.0.1", port, 1)
    turns = asyncio.Semaphore(45)

    async def one(series: Series) -> None:
        async with turns:
            length = Timeframe.parse(series.timeframe).length_s
            end = min(series.missing[-1] + 2 * length, SATURDAY.timestamp())
            days = math.ceil((end - series.missing[0]) / 86400) + 1
            await ask(client, series, end, days)

    began = time.monotonic()
    await asyncio.gather(*(one(series) for series in all_series if series.missing))
    took_s = time.monotonic() - began
    client.disconnect()
    return took_s


async def careful(port: int, all_series: list[Series], kept: dict[str, float]) -> tuple[float, int]:
    """Yardstick 2: from each series' last bar on, page after page, one request at a time."""
    client = IB()
    await client.connectAsync("127.0.0.1", port, 1)
    began, requested = time.monotonic(), 0
    for series in all_series:
        last = kept.get(series.name, SATURDAY.timestamp() - DAYS * 86400)
        end = SATURDAY.timestamp()
        while end > last:
            step = STEPS[series.timeframe]
            await ask(client, series, end, min(step, math.ceil((end - last) / 86400) + 1))
            requested += 1
            end -= step * 86400
    took_s = time.monotonic() - began
    client.disconnect()
    return took_s, requested


def yardsticks(all_series: list[Series], kept: dict[str, float], options: Any) -> dict[str, Any]:
    """How long each takes for the same store, with a fresh gateway."""
    with gateway(SATURDAY, options) as peer:
        attainable_s = asyncio.run(knowing(peer.port, all_series))
    with gateway(SATURDAY, options) as peer:
        careful_s, requested = asyncio.run(careful(peer.port, all_series, kept))
    return {"knowing_s": attainable_s, "careful_s": careful_s, "careful_requests": requested}


# Only tails are due.


def tails(symbols: int, options: dict[str, Any]) -> dict[str, Any]:
    """Many series that are up to date: five minutes later some have a bar that is due."""
    currencies = (
        "EUR GBP AUD NZD USD CAD CHF JPY SEK NOK DKK PLN CZK HUF TRY ZAR MXN SGD HKD".split()
    )
    pairs = [a + b for a in currencies for b in currencies if a != b][:symbols]
    with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        for pair in pairs:
            for timeframe in SPAN_DAYS:
                rows = known_rows(pair, timeframe, WEDNESDAY, 1)
                write(folder, Series(pair, timeframe, rows), rows)
        begun = []
        for start in (WEDNESDAY, WEDNESDAY + timedelta(minutes=5)):
            with (
                gateway(start, options) as peer,
                group(folder, peer.port, start, ktrdr_gap_max_age_days=1) as ours_,
            ):
                took_s = ours_.fill(is_complete)
                requested = bar_requests(peer.ask("record"))
                begun.append((took_s, len(requested), len(set(requested))))
    (_, first, _), (took_s, requests, different) = begun
    return {
        "series": len(pairs) * len(SPAN_DAYS),
        "due": 2 * len(pairs),  # those of 1m and 5m
        "before": first,
        "requests": requests,
        "again": requests - different,
        "seconds": took_s,
    }


# Series that fail.


def beside_failures(options: dict[str, Any]) -> dict[str, Any]:
    """The same good series alone, and beside four that never come to anything."""
    good = [("AAPL", "1m"), ("MSFT", "5m"), ("SPY", "1h"), ("EURUSD", "1m"), ("USDJPY", "5m"),
            ("GBPUSD", "1h"), ("ESZ6", "1m"), ("CLF7", "5m"), ("AMZN", "1m"), ("GOOG", "15m"),
            ("META", "1m"), ("QQQ", "5m")]  # fmt: skip
    bad = ["NOPERM_1m", "XYZZY_1m", "BTC_1m", "NVDA_1m"]
    took = {}
    for name, files in (("alone", []), ("beside", bad)):
        with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch:
            folder = Path(scratch) / "data"
            folder.mkdir()
            toml = '[BTC]\nsec_type = "CRYPTO"\nwhat_to_show = "TRADES"\n'  # IB's error 10299
            (folder / "instruments.toml").write_text(toml)
            for file in [f"{symbol}_{timeframe}" for symbol, timeframe in good] + files:
                (folder / f"{file}.csv").write_text(HEADER)
            wanted = {f"{symbol}_{timeframe}.csv" for symbol, timeframe in good}

            def good_ones_are_done(filler: GapFiller, wanted: set[str] = wanted) -> bool:
                states = {one.file: one.state for one in known(filler)}
                return all(states.get(file) == "complete" for file in wanted)

            with (
                gateway(SATURDAY, options) as peer,
                group(folder, peer.port, SATURDAY) as ours_,
            ):
                peer.ask("unanswered", kind="data", symbol="NVDA")
                took[name] = ours_.fill(good_ones_are_done)
    return took


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-s", type=float, default=0.5)
    parser.add_argument("--bars-per-s", type=float, default=540, help="users saw 7 days in 5 s")
    parser.add_argument("--symbols", type=int, default=200, help="with seven series each")
    options = parser.parse_args()
    speed = {"latency_s": options.latency_s, "bars_per_s": options.bars_per_s}
    with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch:
        store = Path(scratch) / "data"
        store.mkdir()
        all_series = medium_store(store)
        kept = {s.name: max(read(store, s), default=0.0) for s in all_series if read(store, s)}
        neighbours = yardsticks(all_series, kept, speed)
        found = ours(store, all_series, speed)
    found |= neighbours
    found["failures"] = beside_failures(speed)
    found["tails"] = tails(options.symbols, speed)
    rows = [
        ("missing bars restored", f"{found['restored']} of {found['wanted']}", "all"),
        ("wrong, extra", f"{found['wrong']}, {found['extra']}", "0, 0"),
        ("violations of IB's limits", found["violations"] or 0, "0"),
        ("requests, by the fewest possible", (f"{found['requests']} / {found['fewest']} = "
         f"{found['requests'] / found['fewest']:.2f}"), "<= 1.15"),
        ("asked for again; in three idle cycles", f"{found['again']}; {found['idle_again']}",
         "0; 0"),
        ("idle: requests for closed markets", found["idle_closed"], "0"),
        ("most in flight", found["most_in_flight"], "<= 50"),
        ("seconds; by who knows all", (f"{found['seconds']:.1f} / {found['knowing_s']:.1f} = "
         f"{found['seconds'] / found['knowing_s']:.2f}"), "<= 1.5"),
        ("the careful loop, by ours", (f"{found['careful_s']:.1f} / {found['seconds']:.1f} = "
         f"{found['careful_s'] / found['seconds']:.1f}"), ">= 5"),
        ("good ones beside four that fail", (f"{found['failures']['beside']:.1f} / "
         f"{found['failures']['alone']:.1f} = "
         f"{found['failures']['beside'] / found['failures']['alone']:.2f}"), "<= 1.10"),
        (f"{found['tails']['series']} series, tails due", (f"{found['tails']['requests']} requests "
         f"for {found['tails']['due']} due series, {found['tails']['seconds']:.0f} s"), "1 each"),
    ]  # fmt: skip
    for name, value, target in rows:
        print(f"{name:40} {value!s:36} target {target}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
