"""How soon the bars are there after an outage: 40 series, each kind of outage, 0 s to six hours.

Gateway, ib-connection and gap-filler run in one process by one clock, which runs fast while an
outage lasts and as the machine's otherwise; on a busy machine at less than the usual --speed, or
answers seem so late that the gateway counts as dead. Each outage begins while the tails of all
series are being requested; missing at its end is what was cut off, and what became due meanwhile.
Yardstick: the same bars at a gateway that answers, when gap-filler was held up for as long.
Refused requests are those answered with an error or not at all, a minute, after the first 10 s:
what was under way when the outage began cannot be taken back. Prints a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_filling import STORE, TOML, Series, known_rows, write
from played_time import PlayedTime

from ktrdr.config.settings import load_settings
from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager, routes
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.faults import DATA
from ktrdr.sim.gateway.in_thread import ThreadedGateway, running_gateway
from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.market.market import truth

WEDNESDAY = datetime(2026, 11, 18, 9, 2, 30, tzinfo=UTC)
DAYS = 5
CUT = 60
"""Bars that are cut off each series, or a quarter of a short one."""
LENGTHS_S = (0.0, 5.0, 60.0, 150.0, 1800.0, 10800.0, 21600.0)
_SETTLED_S = 330.0
"""Bars that ended so short a time before are not looked for: the next scan may bring them."""
_UNDER_WAY_S = 10.0
_MOST_S = 2400.0
_CLOSELY_S, _FAST = 20.0, 25.0

Faults = tuple[tuple[str, dict[str, Any]], ...]
_PACED = "Historical Market Data Service error message:Historical data request pacing violation"
_FAILED = "Historical Market Data Service error message:Query failed"

OUTAGES: dict[str, Faults] = {
    "none": (),
    "drop": (("drop", {}),),
    "port refused": (("refuse", {}), ("drop", {})),
    "restart": (("restart", {}),),
    "log-out": (("logged_out", {}),),
    "half open": (("half_open", {}),),
    "mute": (("wedged", {}), ("half_open", {})),
    "mute after a drop": (("wedged", {}), ("drop", {})),
    "closes at once": (("untrusted", {}), ("drop", {})),
    "old version": (("old_version", {}), ("drop", {})),
    "too early": (("too_early", {"count": 3}), ("drop", {})),
    "stall": (("stall", {}),),
    "slow drip": (("slow_drip", {"bytes_per_s": 200}),),
    "truncated": (("truncated", {}),),
    "garbage": (("garbage", {}),),
    "1100, 1102": (("connectivity_lost", {"back": 1102}),),
    "1100, 1101": (("connectivity_lost", {"back": 1101}),),
    "1100, end not told": (("unanswered", {"kind": "data"}), ("notice", {"code": 1100})),
    "farm, told": (("farm_broken", {}),),
    "farm, begin told": (("farm_broken", {"told": "begin"}),),
    "farm, not told": (("farm_broken", {"told": "no"}),),
    "farm of quotes": (("farm_broken", {"farm": "usfarm"}),),
    "competing, 162": (("competing_session", {"code": 162}),),
    "competing, 10197": (("competing_session", {"code": 10197}),),
    "false 200": (("false_200", {}),),
    "no data": (("unanswered", {"kind": "data"}),),
    "no bars": (("unanswered", {"kind": "bars"}),),
    "no data, dropped": (("unanswered", {"kind": "data"}), ("drop", {})),
    "no time": (("unanswered", {"kind": "current_time"}),),
    "paced": (("refused", {"kind": "bars", "text": _PACED}),),
    "query failed": (("refused", {"kind": "bars", "text": _FAILED}),),
    "late by 60 s": (("late", {"seconds": 60.0}),),
    "wrong clock": (("wrong_clock", {"seconds": 3600.0}),),
}
MOMENTARY = ("drop", "garbage")
"""These have no length."""


@dataclass
class Watched:
    """One file, and the starts that it must finally have."""

    series: Series
    path: Path
    wanted: set[str] = field(default_factory=set)
    seen: tuple[int, int] = (0, 0)

    def is_complete(self) -> bool:
        """Whether all that was wanted is there; looks only at a file that has changed."""
        found = self.path.stat()
        if self.wanted and self.seen != (found.st_mtime_ns, found.st_size):
            self.seen = (found.st_mtime_ns, found.st_size)
            self.wanted -= {row[:19] for row in self.path.read_text().splitlines()}
        return not self.wanted

    def cut(self) -> None:
        """Cut the newest bars off, and want them back."""
        lines = self.path.read_text().splitlines(keepends=True)
        most = min(CUT, max((len(lines) - 1) // 4, 1))
        self.path.write_text("".join(lines[:-most]))
        self.wanted = {line[:19] for line in lines[-most:]}
        self.seen = (0, 0)

    def want(self, start: float, end: float) -> None:
        """Want all bars that have ended within this time."""
        length_s = Timeframe.parse(self.series.timeframe).length_s
        rows = truth(
            self.series.symbol,
            self.series.timeframe,
            int(start) - length_s,
            int(end),
            today=datetime.fromtimestamp(end, UTC).date(),
        )
        ends = [(row[0], row[0] + length_s) for row in rows]
        due = [begin for begin, until in ends if start < until <= end]
        self.wanted |= {str(datetime.fromtimestamp(t, UTC))[:19] for t in due}
        self.seen = (0, 0)


@dataclass
class Group:
    """All three on one clock, and the thread that steps gap-filler."""

    time: PlayedTime
    gateway: ThreadedGateway
    manager: PersistentIbConnectionManager
    filler: GapFiller
    files: list[Watched]
    may_step: threading.Event = field(default_factory=threading.Event)
    woken: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Step as the program does."""
        while not self.stopping.is_set():
            if not self.may_step.wait(0.1):
                continue
            if not self.filler.step():
                self.time.wait(self.filler.pause_s, self.woken)

    def missing(self) -> int:
        """How many wanted bars are not there."""
        return sum(len(one.wanted) for one in self.files if not one.is_complete())

    def until(self, most_s: float, closely_s: float = _CLOSELY_S) -> float | None:
        """Seconds until nothing is missing; None: not within that time.

        What takes longer than `closely_s` is not waited for at the machine's speed.
        """
        began = self.time.monotonic()
        while self.missing():
            took_s = self.time.monotonic() - began
            if took_s > most_s:
                return None
            is_waiting = self.filler.status.state in ("idle", "waiting")
            self.time.play(_FAST if took_s > closely_s and is_waiting else 1)
            time.sleep(0.02)
        took_s = self.time.monotonic() - began
        self.time.play(1)
        return took_s

    def cut(self) -> None:
        """Cut all files; the folder's watch tells gap-filler so."""
        for one in self.files:
            one.cut()
        self.filler.note_changed_files([one.path.name for one in self.files])
        self.woken.set()

    def settle(self) -> None:
        """Until it is at rest, and has been for five minutes."""
        self.until(_MOST_S, 0)
        self.time.play(_FAST)
        self.time.wait(120)
        while self.filler.status.state != "idle" or not self.manager.is_connected:
            time.sleep(0.05)
        self.time.play(1)


def store(folder: Path) -> list[Watched]:
    """40 series of every kind, without any bar yet."""
    folder.mkdir()
    (folder / "instruments.toml").write_text(TOML)
    made = []
    for symbol, timeframes in STORE.items():
        for timeframe in timeframes.split():
            series = Series(symbol, timeframe, known_rows(symbol, timeframe, WEDNESDAY, DAYS))
            write(folder, series, [])
            starts = {str(datetime.fromtimestamp(row[0], UTC))[:19] for row in series.rows}
            made.append(Watched(series, folder / f"{series.name}.csv", starts))
    return made


@contextlib.contextmanager
def group(latency_s: float) -> Iterator[Group]:
    """Connected, complete and at rest."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch, contextlib.ExitStack() as stack:
        files = store(Path(scratch) / "data")
        played = PlayedTime(WEDNESDAY)
        gateway = stack.enter_context(
            running_gateway(
                now=played.now,
                latency_s=latency_s,
                limits=Limits(id_lingers_s=60),
                new_loop=played.new_loop,
            )
        )
        settings = load_settings(
            _env_file=None,
            ib_host=None,
            ktrdr_sim_port=gateway.port,
            ktrdr_run_dir=Path(scratch) / "run",
            ktrdr_data_dir=Path(scratch) / "data",
            ktrdr_gap_max_age_days=DAYS,
        )
        manager = PersistentIbConnectionManager(settings, now=played.now, new_loop=played.new_loop)
        manager.start()
        stack.callback(manager.stop)
        stack.enter_context(serving(LocalServer(settings.connection_socket, routes(manager))))
        client = LocalClient(settings.connection_socket, "ib-connection")
        filler = GapFiller(settings, client, played.timestamp, monotonic=played.monotonic)
        stack.callback(filler.close)
        made = Group(played, gateway, manager, filler, files)
        stepper = threading.Thread(target=made.run)
        made.may_step.set()
        stepper.start()
        stack.callback(stepper.join)
        stack.callback(filler.stop)
        stack.callback(made.stopping.set)
        made.settle()
        yield made


# One outage.


def play(made: Group, length_s: float, speed: float) -> None:
    """Let the outage last; its first and last seconds at real speed."""
    end = made.time.monotonic() + length_s
    made.time.wait(min(length_s, 2))
    if (fast_s := end - 2 - made.time.monotonic()) > 0:
        made.time.play(max(1.0, min(speed, fast_s)))
        made.time.wait(fast_s)
        made.time.play(1)
    made.time.wait(end - made.time.monotonic())


def through(made: Group, faults: Faults, length_s: float, speed: float) -> dict[str, Any]:
    """One outage, from the first request for what was cut to the last missing bar."""
    entries = len(made.gateway.record)
    cut_at = made.time.timestamp()
    if not faults:
        made.may_step.clear()
        made.time.wait(1)
    made.cut()
    while faults and len(made.gateway.record) == entries:
        time.sleep(0.005)
    entries, began = len(made.gateway.record), made.time.timestamp()
    for name, values in faults:
        made.gateway.begin_fault(name, **values)
    play(made, length_s, speed)
    refused = refusals(made.gateway.record[entries:], began)
    state = f"{made.manager.status().state}, {made.filler.status.state}"
    for name in made.gateway.faults:
        made.gateway.end_fault(name)
    ended = made.time.timestamp()
    for one in made.files:
        one.want(cut_at, ended - _SETTLED_S)
    bars = made.missing()
    made.may_step.set()
    took_s = made.until(_MOST_S)
    return {
        "bars": bars,
        "seconds": took_s,
        "at_once": refused[0],
        "later_a_minute": refused[1] / max((ended - began) / 60, 1),
        "kinds": refused[2],
        "state": state,
    }


def refusals(record: Sequence[dict[str, Any]], began: float) -> tuple[int, int, dict[str, int]]:
    """Requests refused or not answered: those in the first seconds, later ones, and their kinds."""
    early = later = 0
    kinds: Counter[str] = Counter()
    received: dict[tuple[int, int], float] = {}
    for entry in record:
        key = (entry["client_id"], entry["request_id"])
        at = datetime.fromisoformat(entry["time"]).timestamp()
        if entry["event"] == "received":
            received[key] = at
        is_refused = entry["event"] == "answered" and entry["error_code"] is not None
        if entry["kind"] not in DATA or not (is_refused or entry["event"] == "swallowed"):
            continue
        if received.get(key, began) - began <= _UNDER_WAY_S:
            early += 1
        else:
            later += 1
            kinds[f"{entry['kind']} {entry.get('error_code')}"] += 1
    return early, later, dict(kinds)


def row(name: str, length_s: float, found: dict[str, Any], usual_s: float) -> str:
    """A line of the table."""
    took_s = found["seconds"]
    late = f"> {_MOST_S:.0f}" if took_s is None else f"{max(took_s - usual_s, 0):.1f}"
    return (
        f"{name:20} {length_s:7.0f} {found['bars']:6} {late:>8} {'<= 10':>6} "
        f"{found['at_once']:5} {found['later_a_minute']:8.2f} {'<= 2':>5}  {found['state']}"
    )


def main() -> None:
    """Every outage at every length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outages", help="names, with ; between them; default: all")
    parser.add_argument("--lengths", default=",".join(f"{one:g}" for one in LENGTHS_S))
    parser.add_argument("--speed", type=float, default=60, help="while an outage lasts")
    parser.add_argument("--latency-s", type=float, default=0.15)
    parser.add_argument("--log", action="store_true", help="what the two programs log")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO if options.log else logging.CRITICAL,
        format="%(relativeCreated)d %(name)s %(message)s",
    )
    names = options.outages.split(";") if options.outages else list(OUTAGES)
    lengths = [float(one) for one in options.lengths.split(",")]
    print(f"{'outage':20} {'lasts s':>7} {'bars':>6} {'late s':>8} {'':6} "
          f"{'early':>5} {'a minute':>8} {'':5}  at its end")  # fmt: skip
    usual: dict[float, float] = {}
    found: list[dict[str, Any]] = []
    for name in ["none", *(name for name in names if name != "none")]:
        with group(options.latency_s) as made:
            for length_s in [0.0] if name in MOMENTARY else lengths:
                one = through(made, OUTAGES[name], length_s, options.speed)
                if name == "none":
                    usual[length_s] = one["seconds"]
                    print(f"{'(the fill itself)':20} {length_s:7.0f} {one['bars']:6} "
                          f"{one['seconds']:8.1f}", flush=True)  # fmt: skip
                else:
                    print(
                        row(name, length_s, one, usual.get(length_s, usual[min(usual)])), flush=True
                    )
                found.append({"outage": name, "lasts_s": length_s} | one)
                made.settle()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
