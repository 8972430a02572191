"""What the resident programs hold in memory over the work of a day.

A day is 288 cycles of the gap filler. They follow each other at once here: in each one the newest
bars of every file are taken away, a scan is asked for, the holes close, and the page is looked at.
Prints a table and a line of JSON. The kernel's count of a process' resident pages is what counts.
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
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ktrdr.config.settings import Settings, load_settings
from ktrdr.errors import PeerDown
from ktrdr.ipc.client import LocalClient

HEADER = "timestamp,open,high,low,close,volume\n"
SYMBOLS = "AAPL MSFT SPY EURUSD USDJPY ESZ6 BTCUSD".split()
TIMEFRAMES = "1m 5m 15m 30m 1h 4h 1d".split()
PROGRAMS = {
    "gateway-sim": "ktrdr.sim",
    "ib-connection": "ktrdr.data.ib_connection_manager",
    "gap-filler": "ktrdr.data.ib_gap_filler",
    "status-app": "ktrdr.web",
}
LIMIT_MIB = 80
TAKEN_ROWS = 5


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def group(scratch: Path, **more: str) -> Iterator[tuple[Settings, dict[str, psutil.Process]]]:
    """The programs, with a store and ports of their own, while the block lasts.

    `more`: further environment variables, of all programs.
    """
    ports = {"KTRDR_SIM_PORT": free_port(), "KTRDR_STATUS_PORT": free_port()}
    folders = {"KTRDR_DATA_DIR": scratch / "data", "KTRDR_RUN_DIR": scratch / "run"}
    given = {name: str(value) for name, value in (ports | folders).items()}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KTRDR_", "IB_"))}
    with (scratch / "log").open("wb") as log:
        started = {
            name: subprocess.Popen(
                [sys.executable, "-m", module], env=kept | given | more, stdout=log, stderr=log
            )
            for name, module in PROGRAMS.items()
        }
        lower = {name.lower(): value for name, value in given.items()}
        try:
            yield (
                load_settings(_env_file=None, **lower),
                {name: psutil.Process(process.pid) for name, process in started.items()},
            )
        finally:
            for process in started.values():
                process.terminate()
            for process in started.values():
                process.wait(15)


def fill_after_scan(filler: LocalClient, timeout_s: float) -> None:
    """Ask for a scan, and wait until nothing is left that could be closed."""
    until = time.monotonic() + timeout_s
    scan_id = None
    while time.monotonic() < until:
        try:
            scan_id = scan_id or filler.post("/scan")["scan_id"]
            said = filler.get("/status")
        except PeerDown:
            said = {}
        is_over = said.get("last_scan_id") == scan_id and said.get("state") == "idle"
        if is_over and not said["gaps_remaining"]:
            return
        time.sleep(0.1)
    raise SystemExit(f"not within {timeout_s:g} s: {said}")


def take_newest(folder: Path) -> None:
    """The last rows of each file go, as if they were still to come."""
    for path in folder.glob("*.csv"):
        lines = path.read_bytes().splitlines(keepends=True)
        if len(lines) > TAKEN_ROWS + 1:
            path.write_bytes(b"".join(lines[:-TAKEN_ROWS]))


def look_at_page(settings: Settings) -> None:
    """What a browser asks for while somebody looks."""
    address = f"http://127.0.0.1:{settings.ktrdr_status_port}"
    for path in ("/", "/api/v1/system/ib-status", "/api/v1/system/system-status", "/metrics"):
        with urllib.request.urlopen(address + path, timeout=10) as answer:
            answer.read()


def main() -> None:
    """Run the day and print what was held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=288, help="288 are a day")
    cycles = parser.parse_args().cycles
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        for symbol in SYMBOLS:
            for timeframe in TIMEFRAMES:
                (folder / f"{symbol}_{timeframe}.csv").write_text(HEADER)
        with group(Path(scratch)) as (settings, processes):
            filler = LocalClient(settings.gap_filler_socket, "gap-filler")
            fill_after_scan(filler, 300)
            held: dict[str, list[float]] = {name: [] for name in processes}
            for _ in range(cycles):
                take_newest(folder)
                fill_after_scan(filler, 120)
                look_at_page(settings)
                for name, process in processes.items():
                    held[name].append(process.memory_info().rss / 2**20)
    found = []
    third = max(1, cycles // 3)
    for name, values in held.items():
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        target = "" if name == "gateway-sim" else f"target <= {LIMIT_MIB} MiB, flat"
        print(f"{name:14} at most {max(values):5.1f} MiB, {first:5.1f} in the first third,"
              f" {last:5.1f} in the last  {target}")  # fmt: skip
        found.append({"program": name, "most": max(values), "first": first, "last": last})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
