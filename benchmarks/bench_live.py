"""How soon after its close a bar is in its file, and what outages cost.

Gateway, ib-connection and gap filler run in processes of their own, at real speed, by a clock that
begins on a Wednesday while stocks and forex trade. Every tenth of a second the files are looked at.
At the end they are compared with the market: bars lost, double or unfinished. Prints a table and a
line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from ktrdr.config.settings import load_settings
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.market.instruments import CURRENCIES
from ktrdr.process import give_memory_back

WEDNESDAY = datetime(2026, 11, 18, 15, 2, 30, tzinfo=UTC)
HEADER = "timestamp,open,high,low,close,volume\n"
STOCKS = (
    "AAPL MSFT GOOG GOOGL AMZN NVDA IWM TSLA META NFLX AMD INTC AVGO CSCO ADBE PEP COST QCOM JPM "
    "BAC WMT V MA JNJ PG KO DIS XOM CVX IBM GE BA CAT MCD PFE T ORCL CRM SPY QQQ DIA GLD TLT"
).split()
LOOK_S = 0.1
LENGTH_S = 60
SETTLED_S = 25
"""Bars that end later than this before the end of the run are not counted."""
OUTAGES: tuple[
    tuple[float, str, float, str, dict[str, Any]], ...
] = (  # share of the run at which it begins, name, seconds, fault, its values
    (0.25, "nightly restart", 60.0, "restart", {}),
    (0.45, "1101", 20.0, "connectivity_lost", {"back": 1101}),
    (0.62, "farm blip", 90.0, "farm_broken", {}),
    (0.82, "silent death", 1.0, "silent_streams", {}),
)


# The three programs.


def gateway_process(pipe: Connection, offset_s: float, options: dict[str, Any]) -> None:
    """Serve, and do what comes through the pipe, until it is told to end."""
    from ktrdr.sim.gateway.in_thread import running_gateway  # noqa: PLC0415  each has its own

    start = datetime.fromtimestamp(time.time() + offset_s, UTC)
    with running_gateway(start=start, **options) as gateway:
        pipe.send(gateway.port)
        while (command := pipe.recv()) is not None:
            name, values = command
            if name == "record":
                pipe.send(_requested(gateway.record))
            elif name == "summary":
                pipe.send(gateway.summary())
            elif name == "end":
                gateway.end_fault(values["fault"])
                pipe.send(None)
            else:
                gateway.begin_fault(name, **values)
                pipe.send(None)


def _requested(record: list[dict[str, Any]]) -> dict[str, int]:
    """Requests for bars of a minute by symbol and pair."""
    wanted = (e for e in record if e["event"] == "received" and e["kind"] == "historical_data")
    return Counter(f"{e['symbol']}{e['currency']}" for e in wanted if e["bar_size"] == "1 min")


def connection_process(pipe: Connection, offset_s: float, given: dict[str, Any]) -> None:
    """ib-connection, until it is told to end."""
    from ktrdr.data.ib_connection_manager import (  # noqa: PLC0415  each has its own
        PersistentIbConnectionManager,
        routes,
    )

    _as_program(given["ktrdr_run_dir"].parent / "ib-connection.log")

    def now() -> datetime:
        return datetime.fromtimestamp(time.time() + offset_s, UTC)

    settings = load_settings(_env_file=None, **given)
    manager = PersistentIbConnectionManager(settings, now=now)
    manager.start()
    with serving(LocalServer(settings.connection_socket, routes(manager))):
        pipe.send(None)
        pipe.recv()
    manager.stop()


def filler_process(pipe: Connection, offset_s: float, given: dict[str, Any]) -> None:
    """The gap filler, until it is told to end."""
    from ktrdr.gap_filler.gap_filler import GapFiller  # noqa: PLC0415  each has its own
    from ktrdr.gap_filler.routes import routes  # noqa: PLC0415

    _as_program(given["ktrdr_run_dir"].parent / "gap-filler.log")
    settings = load_settings(_env_file=None, **given)
    connection = LocalClient(settings.connection_socket, "ib-connection")
    filler = GapFiller(
        settings, connection, lambda: time.time() + offset_s, monotonic=time.monotonic
    )
    stop = threading.Event()

    def listen() -> None:
        pipe.recv()
        stop.set()
        filler.stop()

    threading.Thread(target=listen, daemon=True).start()
    with serving(LocalServer(settings.gap_filler_socket, routes(filler))):
        pipe.send(None)
        if settings.ktrdr_live_streams:
            filler.live.start()
        while not stop.is_set():
            if not filler.step():
                filler.wait()
    filler.close()


def _as_program(path: Path) -> None:
    give_memory_back()
    logging.basicConfig(
        filename=path, level=logging.INFO, format="%(asctime)s.%(msecs)03d %(message)s"
    )


@contextmanager
def program(target: Any, offset_s: float, given: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """A process of its own while the block lasts: what it sent first, pipe, and process."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(theirs, offset_s, given))
    process.start()
    try:
        first = ours.recv()
        yield (first, ours), psutil.Process(process.pid)
    finally:
        ours.send(None)
        process.join(15)
        if process.is_alive():
            process.kill()


# The store.


def symbols(count: int) -> list[str]:
    """So many symbols that trade now: stocks, and pairs of currencies."""
    pairs = (a + b for a, b in itertools.combinations(CURRENCIES, 2))
    return [*STOCKS, *pairs][:count]


def rows_of(symbol: str, first: float, last: float) -> Sequence[tuple[float, ...]]:
    """What the market traded in the minutes that start in `[first, last)`."""
    from ktrdr.sim.market.market import truth  # noqa: PLC0415  not in each of the programs

    return truth(symbol, "1m", int(first), int(last), today=WEDNESDAY.date())


def write_store(folder: Path, names: Sequence[str], days: int, until: float) -> None:
    """Files that are complete up to a minute."""
    for name in names:
        rows = rows_of(name, until - days * 86400 - until % 86400, until)
        lines = [
            f"{datetime.fromtimestamp(row[0], UTC).isoformat(' ')},{','.join(map(repr, row[1:]))}\n"
            for row in rows
        ]
        (folder / f"{name}_1m.csv").write_text(HEADER + "".join(lines))


@dataclass
class Watched:
    """The files, and when each new row was first there (UTC seconds, by the run's clock)."""

    folder: Path
    names: Sequence[str]
    offset_s: float
    seen: dict[str, dict[int, float]] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Count from what is there now."""
        self._sizes = {name: self._path(name).stat().st_size for name in self.names}
        self.seen = {name: {} for name in self.names}

    def look(self) -> None:
        """Note the rows that are new since the last time."""
        for name in self.names:
            path, before = self._path(name), self._sizes[name]
            now = time.time() + self.offset_s
            size = path.stat().st_size
            if size == before:
                continue
            with path.open("rb") as file:
                file.seek(min(before, max(size - 4000, 0)) if size < before else before)
                lines = file.read(size).decode().splitlines()
            self._sizes[name] = size
            for line in lines:
                if line[:2] == "20" and line[19:25] == "+00:00":
                    start = int(datetime.fromisoformat(line[:25]).timestamp())
                    self.seen[name].setdefault(start, now)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}_1m.csv"


# The run.


@dataclass(frozen=True)
class Outage:
    """When there were no data (UTC seconds)."""

    name: str
    begin: float
    end: float


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let the group work for so many minutes, and measure."""
    names = symbols(options.streams + options.polled)
    offset_s = WEDNESDAY.timestamp() - time.time()
    (folder / "data").mkdir()
    write_store(folder / "data", names, options.days, WEDNESDAY.timestamp() // 60 * 60)
    offset_s = WEDNESDAY.timestamp() - time.time()  # writing took a while
    given = {
        "ib_host": None,
        "ktrdr_run_dir": folder / "run",
        "ktrdr_data_dir": folder / "data",
        "ktrdr_gap_max_age_days": options.days,
    }
    given["ktrdr_live_streams"] = options.streams
    gateway = {"latency_s": options.latency_s, "bars_per_s": 50_000}
    with ExitStack() as stack:
        (port, peer), _ = stack.enter_context(program(gateway_process, offset_s, gateway))
        given["ktrdr_sim_port"] = port
        _, connection = stack.enter_context(program(connection_process, offset_s, given))
        _, filler = stack.enter_context(program(filler_process, offset_s, given))
        local = LocalClient(folder / "run" / "gap-filler.sock", "gap-filler")
        _until_complete(local)
        time.sleep(options.warm_up_s)
        watched = Watched(folder / "data", names, offset_s)
        watched.begin()
        before = _call(peer, "record")
        began = time.time()
        cpu = [one.cpu_times() for one in (connection, filler)]
        memory: Counter[str] = Counter()
        outages = _watch(options, peer, watched, began, memory, (connection, filler))
        requests = Counter(_call(peer, "record"))
        requests.subtract(before)
        used = [one.cpu_times() for one in (connection, filler)]
        cpu_s = [b.user + b.system - a.user - a.system for a, b in zip(cpu, used, strict=True)]
        kept = _kept(local, names)
        violations = _call(peer, "summary")["violations"]
    span = (began + offset_s, time.time() + offset_s - SETTLED_S)
    found = figures(watched, names, span, outages, kept)
    most = max(requests.values(), default=0)
    minutes = (time.time() - began) / 60
    return found | {
        "minutes": round(minutes, 1),
        "requests": sum(requests.values()),
        "most_requests_a_series_and_bar": round(most / minutes, 2),
        "violations": violations,
        "mib": dict(memory),
        "cpu_share": [round(one / 60 / minutes, 3) for one in cpu_s],
    }


def _watch(
    options: argparse.Namespace,
    peer: Connection,
    watched: Watched,
    began: float,
    memory: Counter[str],
    programs: Sequence[psutil.Process],
) -> list[Outage]:
    """Look at the files for so many minutes; break what is to break."""
    until = began + 60 * options.minutes
    planned = [] if options.calm else list(OUTAGES)
    under_way: Outage | None = None
    outages: list[Outage] = []
    fault = ""
    while time.time() < until:
        time.sleep(LOOK_S)
        watched.look()
        for name, one in zip(("ib-connection", "gap-filler"), programs, strict=True):
            memory[name] = max(memory[name], round(one.memory_info().rss / 2**20))
        share, now = (time.time() - began) / (until - began), time.time() + watched.offset_s
        if under_way is None and planned and share >= planned[0][0]:
            _, name, length_s, fault, values = planned.pop(0)
            _call(peer, fault, **values)
            under_way = Outage(name, now, now + length_s)
        elif under_way is not None and now >= under_way.end:
            _call(peer, "end", fault=fault)
            outages.append(Outage(under_way.name, under_way.begin, now))
            under_way = None
    return outages


def _call(pipe: Connection, command: str, **values: Any) -> Any:
    pipe.send((command, values))
    return pipe.recv()


def _until_complete(local: LocalClient) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        time.sleep(0.2)
        status = local.get("/status", 30)
        if status["last_scan_time"] and status["state"] == "idle" and not status["gaps_remaining"]:
            return
    raise SystemExit(f"not complete within 300 s: {status}")


def _kept(local: LocalClient, names: Sequence[str]) -> dict[str, str]:
    """How each series is kept, as far as the gap filler says so."""
    streamed = set(local.get("/status", 30)["streams"])
    return {name: "stream" if f"{name}_1m" in streamed else "due" for name in names}


# What came of it.


def figures(
    watched: Watched,
    names: Sequence[str],
    span: tuple[float, float],
    outages: Sequence[Outage],
    kept: dict[str, str],
) -> dict[str, Any]:
    """Delays by how a series is kept, and bars lost, double and unfinished."""
    delays: dict[str, list[float]] = {"stream": [], "due": []}
    after: dict[str, float] = dict.fromkeys((one.name for one in outages), 0.0)
    lost = double = unfinished = 0
    for name in names:
        text = (watched.folder / f"{name}_1m.csv").read_text().splitlines()[1:]
        rows = {
            int(datetime.fromisoformat(line[:25]).timestamp()): tuple(
                map(float, line.split(",")[1:])
            )
            for line in text
        }
        double += len(text) - len(rows)
        for start, *values in rows_of(name, span[0] // 60 * 60, span[1] // 60 * 60):
            end = start + LENGTH_S
            if not span[0] <= end <= span[1]:
                continue
            if int(start) not in rows:
                lost += 1
                continue
            unfinished += rows[int(start)] != tuple(map(float, values))
            if int(start) not in watched.seen[name]:
                continue
            at = watched.seen[name][int(start)]
            broken = [one for one in outages if one.begin - 5 <= end <= one.end + 1]
            if broken:
                after[broken[0].name] = max(after[broken[0].name], at - broken[0].end)
            elif not any(one.end < end <= one.end + 60 for one in outages):
                delays[kept[name]].append(at - end)
    return {
        "series": {how: sum(one == how for one in kept.values()) for how in delays},
        "bars": {how: len(found) for how, found in delays.items()},
        "median_s": {how: _part(found, 0.5) for how, found in delays.items()},
        "p99_s": {how: _part(found, 0.99) for how, found in delays.items()},
        "longest_s": {how: _part(found, 1.0) for how, found in delays.items()},
        "after_outage_s": {name: round(one, 1) for name, one in after.items()},
        "lost": lost,
        "double": double,
        "unfinished": unfinished,
    }


def _part(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2) if ordered else None


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--streams", type=int, default=30)
    parser.add_argument("--polled", type=int, default=200)
    parser.add_argument("--days", type=int, default=5, help="of minutes in each file")
    parser.add_argument("--latency-s", type=float, default=0.15)
    parser.add_argument("--warm-up-s", type=float, default=20.0)
    parser.add_argument("--calm", action="store_true", help="nothing breaks")
    parser.add_argument("--keep-logs", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ktrdr-live-") as scratch:
        found = run(options, Path(scratch))
        if options.keep_logs:
            for path in Path(scratch).glob("*.log"):
                (options.keep_logs / path.name).write_bytes(path.read_bytes())
    for name, value in found.items():
        sys.stdout.write(f"{name:32} {value}\n")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    main()
