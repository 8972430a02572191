"""The status page's program under load: bars of a long series in each format, and what they cost.

It runs in a process of its own, beside a store with one series; the client is this process. The
yardstick is the raw copy of the same file: read a piece at a time, and sent as it is by the same
server, waitress, with the same settings and the same rules for memory. Prints a table and a line of
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import waitress  # type: ignore[import-untyped]

from ktrdr.process import give_memory_back

HEADER = b"timestamp,open,high,low,close,volume\n"
FIRST_S = 1_700_000_000 // 86400 * 86400
LIMIT_TIMES, LIMIT_MIB = 3.0, 30.0
FORMATS = ("csv", "json", "parquet")
SAMPLE_S = 0.002
_TAKEN = 256 * 1024
_SENT = 60 * 1024


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def write_series(path: Path, rows: int) -> int:
    """A series of one minute, as the gap filler writes it; returns its bytes."""
    random = np.random.default_rng(1)
    prices = (200 + random.standard_normal(rows).cumsum() * 0.02).round(2).tolist()
    volumes = random.integers(1, 50_000, rows).tolist()
    times = (FIRST_S + 60 * np.arange(rows)).astype("datetime64[s]").astype(str)
    with path.open("wb") as file:
        file.write(HEADER)
        for when, price, volume in zip(times, prices, volumes, strict=True):
            prices_and_volume = f"{price},{price + 0.01:.2f},{price},{price},{volume}"
            file.write(f"{when.replace('T', ' ')}+00:00,{prices_and_volume}\n".encode())
    return path.stat().st_size


def serve_raw(path: Path, port: int) -> None:
    """Send the file to everyone as it is, until it is ended."""

    def app(_environ: object, start_response: Callable[..., object]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/csv")])
        with path.open("rb", 0) as file:
            while piece := file.read(_SENT):
                yield piece

    give_memory_back()  # as in all of our programs
    waitress.serve(app, host="127.0.0.1", port=port, outbuf_high_watermark=2**20, _quiet=True)


@contextmanager
def raw_copy(scratch: Path, path: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A program that sends the file as it is, while the block lasts; its port and process."""
    port = free_port()
    command = [sys.executable, __file__, "--raw", str(path), "--port", str(port)]
    with _running(scratch, command, port, {}) as process:
        yield port, process


@contextmanager
def status_app(scratch: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The page's program with a store of its own, while the block lasts; its port and process."""
    port = free_port()
    given = {
        "KTRDR_STATUS_PORT": str(port),
        "KTRDR_DATA_DIR": str(scratch / "data"),
        "KTRDR_RUN_DIR": str(scratch / "run"),
    }
    with _running(scratch, [sys.executable, "-m", "ktrdr.web"], port, given) as process:
        yield port, process


@contextmanager
def _running(
    scratch: Path, command: list[str], port: int, given: dict[str, str]
) -> Iterator[psutil.Process]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KTRDR_", "IB_"))}
    with (scratch / "log").open("ab") as log:
        process = subprocess.Popen(command, env=kept | given, stdout=log, stderr=log)
        try:
            wait_until_open(port)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(15)


def wait_until_open(port: int) -> None:
    """TimeoutError: nobody listens there after 20 s."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nobody listens on {port}")


def receive(port: int, request: bytes) -> int:
    """Send a request, and read all that comes; returns how many bytes that were."""
    buffer, received = bytearray(_TAKEN), 0
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(request)
        while size := connection.recv_into(buffer):
            received += size
    return received


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[int]]:
    """The largest resident memory (bytes) of a process while the block lasts."""
    most, done = [process.memory_info().rss], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    yield most
    done.set()
    thread.join()


def bars(rows: int, times: int) -> dict[str, float]:
    """One series in each format: seconds of wall and processor, and MiB more memory."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as folder:
        scratch = Path(folder)
        (scratch / "data").mkdir()
        path = scratch / "data" / "AAPL_1m.csv"
        took: dict[str, float] = {"rows": rows, "file_mib": write_series(path, rows) / 2**20}
        with raw_copy(scratch, path) as (port, process):
            took |= _download("raw", port, process, times)
        with status_app(scratch) as (port, process):
            receive(port, _get("csv", "&limit=1"))  # the file is verified once
            for chosen in FORMATS:
                took |= _download(chosen, port, process, times)
        took["csv_times_raw"] = took["csv_s"] / took["raw_s"]
    return {name: round(value, 3) for name, value in took.items()}


def _download(chosen: str, port: int, process: psutil.Process, times: int) -> dict[str, float]:
    """The whole file several times: medians, and the most memory that it took more."""
    receive(port, _get(chosen, "&limit=1"))
    before, wall, cpu = process.memory_info().rss, [], []
    with watched(process) as most:
        for _ in range(times):
            began, used = time.perf_counter(), sum(process.cpu_times()[:2])
            receive(port, _get(chosen))
            wall.append(time.perf_counter() - began)
            cpu.append(sum(process.cpu_times()[:2]) - used)
    return {
        f"{chosen}_s": statistics.median(wall),
        f"{chosen}_cpu_s": statistics.mean(cpu),  # it is counted in hundredths
        f"{chosen}_more_mib": (most[0] - before) / 2**20,
    }


def _get(chosen: str, more: str = "") -> bytes:
    path = f"/api/v1/data/AAPL/1m?format={chosen}{more}"
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def show(took: dict[str, float]) -> None:
    """The table."""
    print(f"{took['rows']:,} rows, {took['file_mib']:.0f} MiB")
    print(f"{'':10}{'seconds':>9}{'× raw':>8}{'CPU s':>8}{'× raw':>8}{'more MiB':>10}")
    for chosen in ("raw", *FORMATS):
        wall, cpu, more = (took[f"{chosen}_{what}"] for what in ("s", "cpu_s", "more_mib"))
        times = wall / took["raw_s"], cpu / took["raw_cpu_s"]
        print(f"{chosen:10}{wall:9.3f}{times[0]:8.1f}{cpu:8.3f}{times[1]:8.1f}{more:10.1f}")
    print(f"limits for csv: {LIMIT_TIMES:g} × the raw copy, {LIMIT_MIB:g} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.raw:
        serve_raw(given.raw, given.port)
    found = bars(given.rows, given.times)
    show(found)
    print(json.dumps(found))
