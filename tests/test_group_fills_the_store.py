"""The real programs together: what was cut out of a store comes back, whatever is killed."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import pytest

from ktrdr.errors import PeerDown
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.sim.market.market import truth
from tests.fake_connection import connection_status
from tests.ports import free_port

HEADER = "timestamp,open,high,low,close,volume\n"
REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "gateway-sim": [sys.executable, "-m", "ktrdr.sim"],
    "ib-connection": [sys.executable, "-m", "ktrdr.data.ib_connection_manager"],
    "gap-filler": [sys.executable, "-m", "ktrdr.data.ib_gap_filler"],
    "status-app": [sys.executable, "-m", "ktrdr.web"],
    "port-forward": [str(ROOT / "scripts/ib_port_forward.sh")],
}

pytestmark = pytest.mark.timeout(240)


class Group:
    """The programs of a scratch folder, started as supervisord would start them."""

    def __init__(self, scratch: Path, *sim_options: str):
        self.folder = scratch
        self.data = scratch / "data"
        self.record = scratch / "record.jsonl"
        self.running: dict[str, subprocess.Popen] = {}
        self.prefix: tuple[str, ...] = ()
        """What each program is started with."""
        self._sim_options = ["--record", str(self.record), *sim_options]
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("IB_")} | {
            "KTRDR_RUN_DIR": str(scratch / "run"),
            "KTRDR_DATA_DIR": str(self.data),
            "KTRDR_SIM_PORT": str(free_port()),
            "KTRDR_STATUS_PORT": str(free_port()),
            "KTRDR_FORWARD_PORT": str(free_port()),
            "KTRDR_IB_RETRY_DELAYS_S": "0.3",
            "KTRDR_IB_HEARTBEAT_S": "2",
            "KTRDR_GAP_MAX_AGE_DAYS": "60",  # a replay ends up to 13 days ago
        }
        self.connection = LocalClient(scratch / "run" / "ib-connection.sock", "ib-connection")
        self.gap_filler = LocalClient(scratch / "run" / "gap-filler.sock", "gap-filler")
        self.gateway = LocalClient(scratch / "run" / "gateway-sim.sock", "gateway-sim")

    def start(self, *names: str) -> None:
        for name in names or COMMANDS:
            options = self._sim_options if name == "gateway-sim" else []
            with (self.folder / f"{name}.log").open("ab") as log:
                self.running[name] = subprocess.Popen(
                    [*self.prefix, *COMMANDS[name], *options],
                    env=self._environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a program; its exit code."""
        process = self.running.pop(name)
        process.send_signal(number)
        return process.wait(10)

    def answers(self, name: str) -> bool:
        """Whether a program does what it is there for."""
        if name in ("status-app", "port-forward", "gateway-sim"):
            port = {"status-app": "STATUS", "port-forward": "FORWARD", "gateway-sim": "SIM"}[name]
            address = ("127.0.0.1", int(self._environment[f"KTRDR_{port}_PORT"]))
            try:
                socket.create_connection(address, 5).close()
            except OSError:
                return False
            return True
        client = self.connection if name == "ib-connection" else self.gap_filler
        return state_of(client) is not None

    def controls_answer(self) -> bool:
        """Whether the simulated gateway's faults can be begun."""
        try:
            return bool(self.gateway.get("/status"))
        except PeerDown:
            return False

    def is_complete(self) -> bool:
        try:
            status = self.gap_filler.get("/status")
        except PeerDown:
            return False
        return (
            status["last_scan_time"] is not None
            and status["state"] == "idle"
            and status["gaps_remaining"] == 0
        )

    def requests(self, symbol: str = "") -> list[dict]:
        """What the gateway was asked for bars, of one symbol where it is given."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        entries = [json.loads(line) for line in lines]
        requested = [
            e for e in entries if e["kind"] == "historical_data" and e["event"] == "received"
        ]
        return [e for e in requested if symbol in ("", e["symbol"])]

    def asked_spans(self) -> list[tuple[int, int]]:
        """From when on bars were asked for, and at what time that was."""
        with contextlib.closing(sqlite3.connect(self.data / ".ktrdr/ledger.sqlite")) as ledger:
            return ledger.execute("SELECT start, at FROM asked").fetchall()


@pytest.fixture
def make_group(scratch):
    made = []

    def make(*sim_options: str) -> Group:
        group = Group(scratch, *sim_options)
        group.data.mkdir(exist_ok=True)
        made.append(group)
        return group

    yield make
    for group in made:
        for process in group.running.values():
            process.terminate()
        for process in group.running.values():
            process.wait(10)


def rows(path: Path) -> list[tuple]:
    """A file's rows as numbers, by their times as text."""
    with path.open() as file:
        reader = csv.reader(file)
        next(reader)
        return [(stamp, *map(float, values)) for stamp, *values in reader]


def cut(original: Path, target: Path) -> int:
    """A copy with holes: single minutes, hours, days, and the tail; how many rows are gone."""
    lines = original.read_text().splitlines(keepends=True)
    header, body = lines[0], lines[1:]
    days = [list(group) for _, group in groupby(body, key=lambda line: line[:10])]
    kept = []
    for number, day in enumerate(days):
        if number % 9 == 4:
            continue  # whole days
        rest = day[:200] + day[260:] if number % 3 == 1 else day  # an hour
        kept += [line for i, line in enumerate(rest) if i % 97 != number % 97]  # single minutes
    kept = kept[:-700]  # the tail
    target.write_text(header + "".join(kept))
    return len(body) - len(kept)


def restored(group: Group, originals: Path) -> dict[str, int]:
    """Rows that came back, by file; fails where a row is missing, wrong or was never there."""
    came_back = {}
    for path in sorted(group.data.glob("*.csv")):
        found, expected = rows(path), rows(originals / path.name)
        assert found == expected, path.name
        came_back[path.name] = len(found)
    return came_back


def check_that_all_comes_back(group: Group, originals: Path, wait_for) -> None:
    before = sum(len(rows(p)) for p in group.data.glob("*.csv"))
    group.start()
    wait_for(group.is_complete, 180)
    assert sum(restored(group, originals).values()) > before
    assert len(group.requests()) > 0
    complete_at = int(time.time())
    for _ in range(3):
        scan = group.gap_filler.post("/scan")["scan_id"]
        wait_for(lambda scan=scan: group.gap_filler.get("/status")["last_scan_id"] == scan)
        wait_for(group.is_complete)
    restored(group, originals)
    newest = [start for start, at in group.asked_spans() if at > complete_at]
    assert all(start > complete_at - 1200 for start in newest), "asked for again what IB has not"
    assert {group.end(name) for name in list(group.running)} == {0}


@pytest.mark.skipif(not REAL.is_dir(), reason="there is no ../shared/data")
def test_every_real_bar_that_was_cut_out_comes_back_and_no_other(make_group, scratch, wait_for):
    real, originals = scratch / "real", scratch / "originals"
    real.mkdir()
    for name in ("USDJPY_1m.csv", "6EH4_1m.csv"):
        shutil.copy(REAL / name, real)
    command = [sys.executable, "-m", "ktrdr.sim", "--replay", str(real), "--export-to"]
    subprocess.run([*command, str(originals)], check=True, timeout=60, capture_output=True)
    group = make_group("--replay", str(real), "--latency-ms", "5")
    for path in originals.glob("*.csv"):
        assert cut(path, group.data / path.name) > 5000
    check_that_all_comes_back(group, originals, wait_for)


def write_truth(folder: Path, symbol: str, timeframe: str, days: int, until: datetime) -> None:
    """What the generated market traded in the days before `until`."""
    start = until - timedelta(days=days)
    bars = truth(symbol, timeframe, int(start.timestamp()), int(until.timestamp()))
    lines = [
        f"{datetime.fromtimestamp(start, UTC).isoformat(' ')},"
        + ",".join(repr(value) for value in values)
        + "\n"
        for start, *values in bars
    ]
    (folder / f"{symbol}_{timeframe}.csv").write_text(HEADER + "".join(lines))


@pytest.mark.parametrize("symbol", ["SPY"])
def test_every_generated_bar_that_was_cut_out_comes_back(make_group, scratch, wait_for, symbol):
    """Files that end before today: the market goes on while the test runs."""
    replayed, originals = scratch / "replayed", scratch / "originals"
    replayed.mkdir()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    write_truth(replayed, symbol, "1m", 40, today)
    write_truth(replayed, "EURUSD", "1m", 40, today)
    command = [sys.executable, "-m", "ktrdr.sim", "--replay", str(replayed), "--export-to"]
    subprocess.run([*command, str(originals)], check=True, timeout=60, capture_output=True)
    group = make_group("--replay", str(replayed), "--latency-ms", "5")
    for path in originals.glob("*.csv"):
        assert cut(path, group.data / path.name) > 2000
    check_that_all_comes_back(group, originals, wait_for)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_each_program_may_go_and_come_while_the_store_fills(make_group, wait_for, number):
    group = make_group("--latency-ms", "300")
    names = [f"{s}_{t}.csv" for s in ("AAPL", "EURUSD", "ESZ6") for t in ("5m", "15m", "30m", "1h")]
    for name in names:
        (group.data / name).write_text(HEADER)
    group.start()
    wait_for(lambda: all(map(group.answers, COMMANDS)))
    for name in COMMANDS:
        filled = sum(len(rows(p)) > 0 for p in group.data.glob("*.csv"))
        wait_for(lambda: state_of(group.gap_filler) in ("filling", "idle"))
        group.end(name, number)
        for other in COMMANDS.keys() - {name}:
            assert group.answers(other), f"{other} answers while {name} is gone"
        group.start(name)
        wait_for(lambda name=name: group.answers(name))
        assert sum(len(rows(p)) > 0 for p in group.data.glob("*.csv")) >= filled
    wait_for(group.is_complete, 120)
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = yesterday - timedelta(days=60)
    for name in names:
        symbol, timeframe = name.removesuffix(".csv").split("_")
        known = truth(symbol, timeframe, int(since.timestamp()), int(yesterday.timestamp()))
        stamps = {
            datetime.fromtimestamp(start, UTC).isoformat(" "): tuple(map(float, values))
            for start, *values in known
        }
        found = {stamp: tuple(values) for stamp, *values in rows(group.data / name)}
        assert stamps.items() <= found.items(), name
    assert sorted(p.name for p in group.data.iterdir()) == sorted([".ktrdr", *names])


def state_of(client: LocalClient) -> str | None:
    try:
        return client.get("/status")["state"]
    except PeerDown:
        return None


def test_a_store_of_live_bars_is_refused_in_one_line(make_group, wait_for):
    group = make_group()
    path = group.data / "AAPL_1m.csv"
    path.write_text(HEADER)
    (group.data / ".ktrdr").mkdir()
    (group.data / ".ktrdr" / "source").write_text("live\n")
    group.start()
    wait_for(lambda: group.answers("ib-connection") and group.answers("gap-filler"))
    wait_for(lambda: group.gap_filler.get("/status")["state"] == "refused")
    wait_for(lambda: group.connection.get("/status")["connected"])
    assert path.read_text() == HEADER
    assert group.requests("AAPL") == []
    log = (group.folder / "gap-filler.log").read_text()
    refusals = [line for line in log.splitlines() if "holds live bars" in line]
    assert len(refusals) >= 1


def test_the_gap_filler_stops_in_time_while_its_questions_hang(make_group, wait_for):
    hanging = []

    async def status(_query):
        return to_json(connection_status())

    async def sessions(_query):
        now = int(time.time())
        days = range(now - now % 86400 - 60 * 86400, now + 86400, 86400)
        opened = [[day, day + 86400, day] for day in days]
        return {"zone": "UTC", "start": days[0], "end": days[-1] + 86400, "sessions": opened}

    async def bars(query):
        hanging.append(query["symbol"])
        await asyncio.sleep(300)

    group = make_group()
    for i in range(12):
        (group.data / f"S{i:02}_1m.csv").write_text(HEADER)
    run_dir = group.folder / "run"
    routes = {("GET", "/status"): status, ("GET", "/sessions"): sessions, ("GET", "/bars"): bars}
    with serving(LocalServer(run_dir / "ib-connection.sock", routes)):
        group.start("gap-filler")
        wait_for(lambda: len(hanging) >= 8)
        assert group.end("gap-filler") == 0


def test_a_new_file_is_filled_long_before_the_next_scan(make_group, wait_for):
    group = make_group()
    group.start("gateway-sim", "ib-connection", "gap-filler")
    wait_for(lambda: all(map(group.answers, ("ib-connection", "gap-filler"))))
    wait_for(group.is_complete)
    path = group.data / "AAPL_1d.csv"
    path.write_text(HEADER)
    wait_for(lambda: rows(path), 60)  # the next scan is after 300 s
    wait_for(group.is_complete)
    path.unlink()
    wait_for(lambda: group.gap_filler.get("/coverage")["series"] == [], 60)
    assert {group.end(name) for name in ("gap-filler", "ib-connection", "gateway-sim")} == {0}


def test_a_fill_goes_on_after_the_gap_filler_was_killed_in_its_middle(make_group, wait_for):
    group = make_group("--latency-ms", "100")
    path = group.data / "AAPL_1h.csv"
    path.write_text(HEADER)
    group.start("gateway-sim", "ib-connection", "gap-filler")
    wait_for(lambda: group.answers("gap-filler") and group.controls_answer())

    def fill():
        (one,) = group.gap_filler.get("/fills")["fills"]
        return one

    # Bars drip, so that the middle of the fill lasts for many seconds.
    group.gateway.post("/fault/slow_drip", bytes_per_s="150000")
    group.gap_filler.post("/fill", symbol="AAPL", timeframe="1h", **{"from": "2015-01-01"})
    wait_for(lambda: (fill()["present"] or 0) > 500, 60)
    assert fill()["state"] != "done"
    group.end("gap-filler", signal.SIGKILL)
    group.gateway.delete("/fault/slow_drip")
    group.start("gap-filler")
    wait_for(lambda: group.answers("gap-filler"))
    assert fill()["state"] != "done"
    # Where the answer for the sessions was lost with it, holidays are to be proven first.
    wait_for(lambda: fill()["state"] in ("done", "unproven"), 120)
    assert fill()["missing"].keys() <= {"no_trades", "unproven", "late"}
    assert fill()["expected"] - fill()["present"] == sum(fill()["missing"].values())
    assert rows(path)[0][0] < "2015-01-03"
