"""How the status app serves: during a fill, to fifty clients, at 500 series, and to idle clients.

`speed`: the answers of ib-status at a steady rate while the simulated group fills ten years, beside
an app of three lines on the same server, and what that costs the fill. `tabs`: fifty clients with a
tab each, beside one; `bench_tabs.py` has fifty tabs of one browser. `sizes`: first page, poll,
grid. `idle`: an answer while 500 connections hang. Prints a table and a line of JSON for each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import http.client
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from bench_grid import NOW, schedule_of, state_of
from bench_memory import HEADER, free_port, group

from ktrdr.config.settings import load_settings
from ktrdr.errors import PeerDown
from ktrdr.gap_filler.coverage_grid import CoverageGrids
from ktrdr.gap_filler.report import StoreSnapshot
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import to_text
from ktrdr.ipc.messages import (
    ConnectionStatus,
    GapFillerStatus,
    SeriesStatus,
    StoreCoverage,
)
from ktrdr.ipc.server import Handler, LocalServer
from ktrdr.store.csv_store import CsvStore

STATUS = "/api/v1/system/ib-status"
GRID = "/api/v1/data/coverage/grid"
LIVE = "/live/overview"
SERIES, DAYS = 500, 365
CLIENTS = 20
OPEN_REQUESTS = 50
SYMBOLS = ("AAPL", "MSFT", "AMZN", "GOOG", "META", "NVDA", "SPY", "QQQ")
"""Whose minutes are filled: enough of them for all rounds of `speed`."""
ASKED = f"GET {STATUS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
LENGTH = re.compile(rb"^content-length: (\d+)", re.IGNORECASE | re.MULTILINE)
WARM_UP_S = 3
"""The first request after a pause waits for a peer; those that are measured come steadily."""
YARDSTICK = """
import sys
from flask import Flask
from waitress import serve
app = Flask("yardstick")
app.get("/<path:path>")(lambda path: {"connected": True})
serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=32)
"""


def get(port: int, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def wait_for(port: int, path: str, timeout_s: float = 60) -> None:
    """Until it is answered."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            get(port, path)
            return
        time.sleep(0.1)
    raise SystemExit(f"nobody answers at port {port}")


# Speed: a steady rate of requests, whatever the answers take.


def load(port: int, rate: float, seconds: float) -> list[float]:
    """Milliseconds of each answer, from the moment at which its request was due."""
    begin, turns = time.monotonic() + 0.2, itertools.count()

    def client() -> list[float]:
        took = []
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            while (due := begin + next(turns) / rate) < begin + seconds:
                time.sleep(max(0.0, due - time.monotonic()))
                connection.sendall(ASKED)
                _whole_answer(connection)
                took.append(1000 * (time.monotonic() - due))
        return took

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(client) for _ in range(CLIENTS)]
        return [ms for one in running for ms in one.result()]


def _whole_answer(connection: socket.socket) -> None:
    """Read it. http.client would take 0.3 ms of the processor for it, where this takes 0.1."""
    answer = _received(connection)
    while b"\r\n\r\n" not in answer:
        answer += _received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    if length is None or not head.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"no answer that is expected: {head!r}")
    missing = int(length[1]) - len(body)
    while missing > 0:
        missing -= len(_received(connection))


def _received(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise SystemExit("the app has closed a connection before its answer was whole")
    return part


def percentiles(rounds: list[list[float]]) -> dict[str, object]:
    """The median, and what one in a hundred takes longer than; of each round too, for the noise."""
    together = [ms for took in rounds for ms in took]
    return {
        "requests": len(together),
        "p50_ms": round(statistics.median(together), 1),
        "p99_ms": _p99(together),
        "rounds_p99_ms": [_p99(took) for took in rounds],
    }


def _p99(took: list[float]) -> float:
    return round(sorted(took)[int(len(took) * 0.99)], 1)


@contextlib.contextmanager
def yardstick() -> Iterator[tuple[int, psutil.Process]]:
    """An app of three lines, on the same server; its port and process."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", YARDSTICK, str(port)]) as process:
        try:
            wait_for(port, STATUS)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def bars_added(filler: LocalClient) -> int:
    """Bars that the gap filler has written since its start."""
    added: int = filler.get("/status")["bars_added"]
    return added


def fill_rate(filler: LocalClient, seconds: float) -> float:
    """Bars a second, over that time."""
    before, began = bars_added(filler), time.monotonic()
    time.sleep(seconds)
    return (bars_added(filler) - before) / (time.monotonic() - began)


def start_fill(filler: LocalClient) -> None:
    """Sixteen years of minutes of each symbol, and wait until they come."""
    until = time.monotonic() + 120
    wanted = list(SYMBOLS)
    while wanted and time.monotonic() < until:
        with contextlib.suppress(PeerDown):
            query: dict[str, Any] = {"symbol": wanted[0], "timeframe": "1m", "from": "2010-01-01"}
            filler.post("/fill", **query)
            wanted.pop(0)
            continue
        time.sleep(0.5)
    while time.monotonic() < until:
        if fill_rate(filler, 2) > 0:
            return
    raise SystemExit(f"no bar is filled: {filler.get('/status')}")


def loaded_fill(
    filler: LocalClient, port: int, rate: float, seconds: float
) -> tuple[list[float], float]:
    """Milliseconds of each answer, and bars a second meanwhile."""
    load(port, rate, WARM_UP_S)
    before, began = bars_added(filler), time.monotonic()
    took = load(port, rate, seconds)
    return took, (bars_added(filler) - before) / (time.monotonic() - began)


def speed(rate: float, seconds: float, rounds: int, bars_per_s: float) -> dict[str, object]:
    """Requests to ours and to the yardstick by turns, and none before and after each.

    A fill slows as the file grows, so each rate is compared with the mean of those around it.
    `bars_per_s`: what the simulated gateway sends at most, of 50 open requests together.
    """
    paced = {"KTRDR_SIM_BARS_PER_SECOND": f"{bars_per_s / OPEN_REQUESTS:g}"}
    took: dict[str, list[list[float]]] = {"ours": [], "yardstick": []}
    beside: dict[str, list[float]] = {"ours": [], "yardstick": []}
    shares: dict[str, list[float]] = {"ours": [], "yardstick": []}
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as scratch, yardstick() as (other, _):
        (Path(scratch) / "data").mkdir()
        for symbol in SYMBOLS:
            (Path(scratch) / "data" / f"{symbol}_1m.csv").write_text(HEADER)
        with group(Path(scratch), **paced) as (settings, _):
            ports = {"ours": settings.ktrdr_status_port, "yardstick": other}
            wait_for(settings.ktrdr_status_port, "/healthz")
            filler = LocalClient(settings.gap_filler_socket, "gap-filler")
            start_fill(filler)
            alone = [fill_rate(filler, seconds)]
            for name in ["ours", "yardstick", "yardstick", "ours"] * rounds:
                answers, bars_per_s = loaded_fill(filler, ports[name], rate, seconds)
                alone.append(fill_rate(filler, seconds))
                took[name].append(answers)
                beside[name].append(bars_per_s)
                shares[name].append(bars_per_s / statistics.mean(alone[-2:]))
    return {
        "ib_status": percentiles(took["ours"]),
        "yardstick": percentiles(took["yardstick"]),
        "bars_per_s": {"alone": [round(one) for one in alone]}
        | {f"beside_{name}": [round(one) for one in rates] for name, rates in beside.items()},
        "fill_slower_percent": _slower(shares["ours"]),
        "fill_slower_beside_yardstick_percent": _slower(shares["yardstick"]),
    }


def _slower(shares: list[float]) -> float:
    return round(100 * (1 - statistics.median(shares)), 1)


# The status app alone, beside peers that answer for a store of 500 series.


def connection_status() -> ConnectionStatus:
    """A connection that is well."""
    now = datetime.now(UTC)
    return ConnectionStatus(
        connected=True,
        state="connected",
        gateway="simulated",
        host="127.0.0.1",
        port=4102,
        client_id=1,
        server_version=178,
        last_connect_time=now - timedelta(hours=3),
        last_disconnect_time=None,
        last_answer_time=now,
        connection_attempts=1,
        failed_attempts=0,
        next_retry_time=None,
        requests_open=0,
        requests_answered=48_213,
        last_error=None,
    )


def filler_status(folder: Path) -> GapFillerStatus:
    """A gap filler that has done its work."""
    now = datetime.now(UTC)
    return GapFillerStatus(
        running=True,
        state="idle",
        reason="",
        source="simulated",
        data_dir=str(folder),
        check_interval_s=300,
        max_gap_age_days=30,
        batch_symbols=5,
        supported_timeframes=("1m", "5m", "15m", "30m", "1h", "4h", "1d"),
        last_scan_time=now,
        last_scan_id="ab12",
        next_scan_time=now + timedelta(seconds=300),
        series=SERIES,
        series_current=SERIES,
        gaps_detected=0,
        gaps_filled=0,
        gaps_failed=0,
        series_blocked=0,
        gaps_remaining=0,
        unfillable={},
        bars_added=0,
        symbols_processed=0,
        current=(),
        eta_s=0.0,
        eta_words="",
        as_of=now,
        counted_since=now,
        series_states={},
    )


def series_status(number: int) -> SeriesStatus:
    """A complete series."""
    name, last = f"S{number:03}", datetime(2026, 11, 20, 21, tzinfo=UTC)
    return SeriesStatus(name, "30m", f"{name}_30m.csv", "complete", None, last, 3263, 3263, 0)


def filler_routes(folder: Path) -> dict[tuple[str, str], Handler]:
    """The gap filler's answers; the grid is computed as it does it."""
    schedule, store = schedule_of(DAYS), CsvStore(folder)
    states = [state_of(number, schedule, store) for number in range(SERIES)]
    known, grids = StoreSnapshot({one.series: one.snapshot for one in states}), CoverageGrids(30)
    status = to_text(filler_status(folder))
    listed = [series_status(number) for number in range(SERIES)]
    coverage = to_text(StoreCoverage(listed, datetime.now(UTC)))

    async def grid(_query: Mapping[str, str]) -> bytes:
        return to_text(grids.grid(known, (None, None), NOW, is_held=False))

    def always(answer: bytes) -> Handler:
        async def handler(_query: Mapping[str, str]) -> bytes:
            return answer

        return handler

    return {
        ("GET", "/status"): always(status),
        ("GET", "/coverage"): always(coverage),
        ("GET", "/fills"): always(b'{"fills": []}'),
        ("GET", "/grid"): grid,
    }


@contextlib.contextmanager
def played(run_dir: Path, folder: Path) -> Iterator[None]:
    """Both peers at their sockets, on a loop in a thread."""

    async def status(_query: Mapping[str, str]) -> bytes:
        return to_text(connection_status())

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers = [
        LocalServer(run_dir / "ib-connection.sock", {("GET", "/status"): status}),
        LocalServer(run_dir / "gap-filler.sock", filler_routes(folder)),
    ]
    for server in servers:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    try:
        yield
    finally:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextlib.contextmanager
def status_app() -> Iterator[tuple[int, psutil.Process]]:
    """The status app with its played peers; its port and process."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as scratch:
        run_dir, folder, port = Path(scratch) / "run", Path(scratch) / "data", free_port()
        folder.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KTRDR_", "IB_"))}
        given = {"KTRDR_RUN_DIR": run_dir, "KTRDR_DATA_DIR": folder, "KTRDR_STATUS_PORT": port}
        load_settings(_env_file=None, **{k.lower(): v for k, v in given.items()})
        environment = kept | {name: str(value) for name, value in given.items()}
        with (
            played(run_dir, folder),
            (Path(scratch) / "log").open("wb") as log,
            subprocess.Popen(
                [sys.executable, "-m", "ktrdr.web"], env=environment, stdout=log, stderr=log
            ) as process,
        ):
            try:
                wait_for(port, "/healthz")
                yield port, psutil.Process(process.pid)
            finally:
                process.terminate()


# Tabs of different browsers: each requests what the first page does, with the tags of what it has.


async def tab(port: int, until: float, begin_s: float) -> int:
    """One open tab; the number of its requests. The connection is its own."""
    await asyncio.sleep(begin_s)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    tags: dict[str, str] = {}
    due = {LIVE: time.monotonic(), GRID: time.monotonic()}
    count = 0
    while (path := min(due, key=lambda one: due[one])) and due[path] < until:
        await asyncio.sleep(max(0.0, due[path] - time.monotonic()))
        have = f"If-None-Match: {tags[path]}\r\n" if path in tags else ""
        accepted = "Host: localhost\r\nAccept-Encoding: gzip"
        writer.write(f"GET {path} HTTP/1.1\r\n{accepted}\r\n{have}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"Content-Length: (\d+)", head)
        if length and " 304 " not in head.partition("\r\n")[0]:
            await reader.readexactly(int(length[1]))
        tag = re.search(r"Etag: (\S+)", head, re.IGNORECASE)
        tags[path] = tag[1] if tag else ""
        due[path] += 2 if path == LIVE else 3
        count += 1
    writer.close()
    return count


async def open_tabs(port: int, how_many: int, seconds: float) -> int:
    """That many tabs, opened within two seconds; the number of their requests."""
    until = time.monotonic() + seconds
    running = [tab(port, until, 2 * n / how_many) for n in range(how_many)]
    return sum(await asyncio.gather(*running))


def tabs(seconds: float) -> dict[str, object]:
    """CPU seconds and memory of the status app: one tab, fifty tabs, and fifty of the yardstick."""
    with status_app() as (port, process):
        asyncio.run(open_tabs(port, 50, 6))  # everything is imported and rendered once
        found = {f"{n}_tabs": cost_of_tabs(port, process, n, seconds) for n in (1, 50)}
    with yardstick() as (port, process):
        found["50_of_yardstick"] = cost_of_tabs(port, process, 50, seconds)
    return {"seconds": seconds, **found}


def cost_of_tabs(
    port: int, process: psutil.Process, how_many: int, seconds: float
) -> dict[str, float]:
    """What tabs cost the process that serves them."""
    before, rss = process.cpu_times(), process.memory_info().rss
    requests = asyncio.run(open_tabs(port, how_many, seconds))
    after = process.cpu_times()
    return {
        "requests": requests,
        "cpu_s": round(after.user + after.system - before.user - before.system, 2),
        "grown_mib": round((process.memory_info().rss - rss) / 2**20, 1),
    }


# Sizes, and idle clients.


def assets_of(html: bytes) -> set[str]:
    """What a browser loads for a page."""
    return set(re.findall(r'(?:src|href)="(/static/[^"]+)"', html.decode()))


def sizes() -> dict[str, object]:
    """Bytes, and milliseconds of the grid."""
    with status_app() as (port, _):
        html = get(port, "/")[2]
        loaded = ["/", *sorted(assets_of(html))]
        plain = {path: len(get(port, path)[2]) for path in loaded}
        packed = {path: len(get(port, path, **{"Accept-Encoding": "gzip"})[2]) for path in loaded}
        tag = get(port, LIVE)[1]["ETag"]
        grid, times = b"", []
        for _ in range(20):
            time.sleep(1.1)  # what is rendered for all is older than that
            began = time.perf_counter()
            grid = get(port, GRID)[2]
            times.append(1000 * (time.perf_counter() - began))
        return {
            "html": len(html),
            "all": sum(plain.values()),
            "all_gzip": sum(packed.values()),
            "poll": len(poll(port, tag)),
            "grid": len(grid),
            "grid_gzip": len(gzip.compress(grid, 6)),
            "grid_ms": round(statistics.median(times), 1),
            "grid_most_ms": round(max(times), 1),
        }


def poll(port: int, tag: str) -> bytes:
    """All that comes for a poll without a change."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        head = f"GET {LIVE} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {tag}\r\n\r\n"
        client.sendall(head.encode())
        answer = client.recv(65536)
    if b" 304 " not in answer.split(b"\r\n")[0]:
        raise SystemExit(f"the page has changed: {answer[:200]!r}")
    return answer


def idle(how_many: int) -> dict[str, object]:
    """Milliseconds of an answer while connections hang that request nothing."""
    with status_app() as (port, _), contextlib.ExitStack() as open_ones:
        alone = min(_answer_ms(port) for _ in range(20))
        for _ in range(how_many):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        took = [_answer_ms(port) for _ in range(20)]
    return {
        "idle": how_many,
        "alone_ms": round(alone, 1),
        "median_ms": round(statistics.median(took), 1),
        "most_ms": round(max(took), 1),
    }


def _answer_ms(port: int) -> float:
    began = time.perf_counter()
    get(port, "/healthz")
    return 1000 * (time.perf_counter() - began)


PARTS = ("speed", "tabs", "sizes", "idle")
TARGETS = {
    "speed": "p99 <= 25 ms at 200 requests/s, the fill slower by <= 5 %",
    "tabs": "memory flat; CPU beside the yardstick's",
    "sizes": "html <= 30 KB, all <= 150 KB, 50 KB packed; poll <= 300; grid <= 200 KB, 150 ms",
    "idle": "as if they were not there",
}


def main() -> None:
    """Measure the parts that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=15, help="of each round of `speed`")
    parser.add_argument("--rounds", type=int, default=2, help="of four turns each")
    parser.add_argument(
        "--bars-per-second", type=float, default=1_000_000, help="of the gateway; IB: 300 to 3300"
    )
    parser.add_argument("--tab-seconds", type=float, default=600, help="for which tabs are open")
    given = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": lambda: speed(given.rate, given.seconds, given.rounds, given.bars_per_second),
        "tabs": lambda: tabs(given.tab_seconds),
        "sizes": sizes,
        "idle": lambda: idle(500),
    }
    for part in given.parts:
        found = measures[part]()
        print(f"{part}: target {TARGETS[part]}")
        for name, value in found.items():
            print(f"  {name:20} {value}")
        print(json.dumps({part: found}), flush=True)


if __name__ == "__main__":
    main()
