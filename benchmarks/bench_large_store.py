"""How fast stores are filled from a gateway that is slow by the request, beside two yardsticks.

`bench_filling` has a gateway that is slow by the bar. This one answers each request after 150 ms
and 20 µs a bar, and slows down with the number of requests in a minute, as IB's "soft" limit does.
Two stores: one of 40 series with gaps of every kind, and one of 400 empty series of 100 symbols.
Yardstick 1 is a script that knows every gap, sends one request a series, and keeps 45 in flight;
yardstick 2 the careful loop that a user would write: one request after the other. ib-connection
runs in a process of its own, as it does in the group. Prints tables and a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench_filling import (
    SATURDAY,
    Group,
    Series,
    bar_requests,
    fewest,
    gateway,
    is_complete,
    is_restored,
    known_rows,
    medium_store,
    read,
    write,
    yardsticks,
)

from ktrdr.config.settings import Settings, load_settings
from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager, routes
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.server import LocalServer
from ktrdr.sim.gateway.limits import Limits

SPEED = {
    "latency_s": 0.15,
    "bars_per_s": 50_000.0,
    "limits": Limits(soft_per_min=60, soft_delay_s=0.014),
}
DAYS = 30
CURRENCIES = "EUR GBP AUD NZD USD CAD CHF JPY SEK NOK DKK PLN CZK HUF TRY ZAR MXN SGD HKD".split()
STOCKS = "AAPL MSFT GOOG NVDA AMZN META TSLA SPY QQQ".split()
TIMEFRAMES = "15m 1h 4h 1d".split()
HISTORY = ("historical_data", "schedule")


def large_store(folder: Path, symbols: int) -> list[Series]:
    """Empty files of this many symbols: nine stocks, and pairs of currencies."""
    pairs = [a + b for a in CURRENCIES for b in CURRENCIES if a != b]
    made: list[Series] = []
    for symbol in [*STOCKS, *pairs][:symbols]:
        for timeframe in TIMEFRAMES:
            rows = known_rows(symbol, timeframe, SATURDAY, DAYS)
            series = Series(symbol, timeframe, rows, [int(row[0]) for row in rows])
            write(folder, series, [])
            made.append(series)
    return made


# Ours, with ib-connection in a process of its own.


def _settings(folder: Path, port: int) -> Settings:
    return load_settings(
        _env_file=None,
        ib_host=None,
        ktrdr_sim_port=port,
        ktrdr_run_dir=folder.with_name("run"),
        ktrdr_data_dir=folder,
        ktrdr_gap_max_age_days=DAYS,
    )


def _clock(began: float) -> datetime:
    """The gateway's time; `began`: when it began to count, by this machine's clock."""
    return SATURDAY + timedelta(seconds=time.time() - began)


def connection_process(pipe: Connection, folder: Path, port: int, began: float) -> None:
    """Serve until it is told to end."""
    settings = _settings(folder, port)
    manager = PersistentIbConnectionManager(settings, now=lambda: _clock(began))
    manager.start()
    server = LocalServer(settings.connection_socket, routes(manager))
    manager.call(server.start(), 5)
    while not manager.is_connected:
        time.sleep(0.01)
    pipe.send("connected")
    pipe.recv()
    manager.call(server.stop(), 5)
    manager.stop()


@contextlib.contextmanager
def group(folder: Path, port: int) -> Iterator[Group]:
    """Connected, and ready to be stepped."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    began = time.time()
    process = spawn.Process(target=connection_process, args=(there, folder, port, began))
    process.start()
    there.close()  # so that its end is noticed
    settings = _settings(folder, port)
    here.recv()
    connection = LocalClient(settings.connection_socket, "ib-connection")
    filler = GapFiller(settings, connection, lambda: _clock(began).timestamp())
    try:
        yield Group(filler)
    finally:
        filler.stop()
        filler.close()
        here.send("end")
        process.join(10)


def ours(store: Path, all_series: list[Series]) -> dict[str, Any]:
    """Fill a store, and compare it with the market."""
    with gateway(SATURDAY, SPEED) as peer, group(store, peer.port) as group_:
        before, asked_at = len(peer.ask("record")), peer.ask("now").timestamp()
        began = time.monotonic()
        took_s = group_.fill(is_restored)
        record = peer.ask("record")[before:]
        group_.fill(is_complete)
        settled_s = time.monotonic() - began
        summary = peer.ask("summary")
    wrong = extra = there = wanted = 0
    for series in all_series:
        found = read(store, series)
        rows = {row[0]: tuple(map(float, row[1:])) for row in series.rows}
        wanted += len(series.missing)
        there += sum(start in found for start in series.missing)
        wrong += sum(found[start] != row for start, row in rows.items() if start in found)
        extra += sum(start not in rows for start in found if start < SATURDAY.timestamp())
    requested = bar_requests(record)
    return {
        "series": len(all_series),
        "seconds": took_s,
        "settled_s": settled_s,
        "wanted": wanted,
        "restored": there,
        "wrong": wrong,
        "extra": extra,
        "requests": len(requested),
        "fewest": sum(map(fewest, all_series)),
        "first_request_s": first_request_s(record, asked_at),
        "busy_share": busy_share(record),
        "most_messages_per_s": summary["most_messages_per_s"],
        "violations": summary["violations"],
        "most_in_flight": summary["most_in_flight"],
    }


def _at(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["time"]).timestamp()


def first_request_s(record: list[dict[str, Any]], since: float) -> float:
    """Seconds from the start to the first request for bars."""
    return next(_at(entry) for entry in record if bar_requests([entry])) - since


def busy_share(record: list[dict[str, Any]]) -> float:
    """The share of the time, until a tenth of the bars is left, with 40 requests in flight.

    Or while as many messages are sent as IB allows: there cannot be more in flight then.
    """
    events = [entry for entry in record if entry["kind"] in HISTORY]
    wanted = [_at(entry) for entry in events if bar_requests([entry])]
    until = wanted[int(len(wanted) * 0.9)]
    sent = [_at(entry) for entry in record if entry["event"] == "received"]
    in_flight, busy_s = 0, 0.0
    for entry, following in pairwise(events):
        in_flight += {"received": 1, "answered": -1, "cancelled": -1}.get(entry["event"], 0)
        at, until_then = _at(entry), min(_at(following), until)
        is_at_the_limit = sum(at - 1 < one <= at for one in sent) >= MESSAGES_PER_S
        if in_flight >= 40 or is_at_the_limit:
            busy_s += max(until_then - at, 0.0)
    return busy_s / (until - _at(events[0]))


MESSAGES_PER_S = 38
"""Messages within a second that count as many as IB allows, which is 50 in the worst one."""


def rows_of(name: str, found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What was found for one store, with its targets."""
    share = found["seconds"] / found["knowing_s"]
    return [
        (f"{name}: {found['series']} series", f"{found['restored']} of {found['wanted']}", "all"),
        ("wrong, extra", f"{found['wrong']}, {found['extra']}", "0, 0"),
        ("violations of IB's limits", f"{found['violations'] or 0}", "0"),
        ("messages in the worst second", f"{found['most_messages_per_s']}", "<= 50"),
        ("most in flight", f"{found['most_in_flight']}", "<= 50"),
        ("seconds, by the script that knows all", (f"{found['seconds']:.1f} / "
         f"{found['knowing_s']:.1f} = {share:.2f}"), "<= 1.2"),
        ("until own sessions are there too", f"{found['settled_s']:.1f}", ""),
        ("the careful loop, by ours", (f"{found['careful_s']:.1f} / {found['seconds']:.1f} = "
         f"{found['careful_s'] / found['seconds']:.1f}"), ">= 5"),
        ("first request for bars after", f"{found['first_request_s']:.2f} s", "<= 1 s"),
        ("requests, by the fewest possible", (f"{found['requests']} / {found['fewest']} = "
         f"{found['requests'] / found['fewest']:.2f}"), "<= 1.15"),
        ("time with 40 in flight, or at the limit", f"{found['busy_share']:.0%}", ">= 90%"),
    ]  # fmt: skip


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=100, help="with four series each")
    parser.add_argument("--only", choices=("gaps", "large"))
    options = parser.parse_args()
    results: dict[str, Any] = {"at": datetime.now(UTC).isoformat()}
    for name in ("gaps", "large"):
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch:
            store = Path(scratch) / "data"
            store.mkdir()
            all_series = (
                medium_store(store) if name == "gaps" else large_store(store, options.symbols)
            )
            kept = {one.name: max(read(store, one), default=0.0) for one in all_series}
            kept = {series: last for series, last in kept.items() if last}
            neighbours = yardsticks(all_series, kept, SPEED)
            results[name] = ours(store, all_series) | neighbours
        for row in rows_of(name, results[name]):
            print("{:42} {:34} {}".format(*row[:2], row[2] and f"target {row[2]}"))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
