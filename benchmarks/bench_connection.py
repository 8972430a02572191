"""How soon the connection is back after each trouble, by the simulated gateway's own record.

Default settings, real clocks: it takes some six minutes. Prints a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ktrdr.config.settings import load_settings
from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager
from ktrdr.errors import KtrdrError
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import instrument_for
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.in_thread import ThreadedGateway, running_gateway
from ktrdr.sim.gateway.limits import Limits

LATENCY_S = 0.1
HEARTBEAT_S = 15.0
FIRST_DELAY_S = 5.0
START = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp())
ASKED_FOR = "5 mins"
"""The bar size of our questions, by which the record tells them from the connection's own."""


@dataclass
class Asker:
    """Somebody who always waits for bars: the next question follows an answer at once."""

    manager: PersistentIbConnectionManager
    outcomes: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _spans: Iterator[int] = field(default_factory=lambda: itertools.count(START, 300))

    def run(self) -> None:
        """Ask until told to stop."""
        while not self._stop.is_set():
            start = next(self._spans)
            request = BarsRequest(instrument_for("AAPL"), Timeframe.M5, start, start + 86400)
            try:
                self.manager.call(self.manager.bars(request), 300)
                self.outcomes.append("bars")
            except KtrdrError as error:
                self.outcomes.append(error.outcome)
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()


@dataclass
class Bench:
    """One gateway, one connection, one asker."""

    gateway: ThreadedGateway
    manager: PersistentIbConnectionManager
    asker: Asker

    def answered_after(self, moment: datetime, timeout_s: float) -> float:
        """Seconds from then to the first answered question of ours, by the record."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for event in self.gateway.events:
                when = datetime.fromisoformat(event["time"])
                ours = event["event"] == "answered" and event.get("bar_size") == ASKED_FOR
                if ours and event["error_code"] is None and when > moment:
                    return (when - moment).total_seconds()
            time.sleep(0.02)
        raise SystemExit(f"nothing was answered within {timeout_s:g} s: {self.manager.status()}")

    def wait_for(self, is_so: Callable[[], object], timeout_s: float = 120) -> None:
        """Until it is so; the end of the run when that takes too long."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {timeout_s:g} s: {self.manager.status()}")
            time.sleep(0.01)


@contextlib.contextmanager
def bench(*, id_lingers_s: float = 0) -> Iterator[Bench]:
    """All three, when the first bars have come."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ktrdr-")))
        limits = Limits(id_lingers_s=id_lingers_s)
        gateway = stack.enter_context(running_gateway(latency_s=LATENCY_S, limits=limits))
        settings = load_settings(
            _env_file=None,
            ib_host=None,
            ktrdr_sim_port=gateway.port,
            ktrdr_run_dir=folder,
            ktrdr_data_dir=folder / "data",
        )
        manager = PersistentIbConnectionManager(settings)
        manager.start()
        stack.callback(manager.stop)
        asker = Asker(manager)
        thread = threading.Thread(target=asker.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(asker.stop)
        made = Bench(gateway, manager, asker)
        made.wait_for(lambda: "bars" in asker.outcomes)
        yield made


def drops(count: int) -> dict[str, Any]:
    """The connection breaks, and the gateway is there."""
    took = []
    with bench() as b:
        for number in range(count):
            b.gateway.drop("fin" if number % 2 else "rst")
            took.append(b.answered_after(datetime.now(UTC), 60))
            time.sleep(1.5)
        failed = [o for o in b.asker.outcomes if o != "bars"]
    return {"median_s": statistics.median(took), "most_s": max(took), "failed": len(failed)}


def restart(lasts_s: float) -> dict[str, Any]:
    """As every night."""
    with bench() as b:
        with b.gateway.restarting():
            time.sleep(lasts_s)
        took = b.answered_after(datetime.now(UTC), 320)
        failed = [o for o in b.asker.outcomes if o not in ("bars", "not_connected")]
    return {"most_s": took, "failed": len(failed)}


def half_open(count: int) -> dict[str, Any]:
    """The socket lives, and nothing comes over it any more."""
    found, back = [], []
    with bench() as b:

        def has_lost_since(time_before: datetime | None) -> bool:
            return b.manager.status().last_disconnect_time != time_before

        for _ in range(count):
            lost = b.manager.status().last_disconnect_time
            began = time.monotonic()
            with b.gateway.half_open():
                b.wait_for(partial(has_lost_since, lost))
                found.append(time.monotonic() - began)
                back.append(b.answered_after(datetime.now(UTC), 60))
        failed = [o for o in b.asker.outcomes if o != "bars"]
    return {"most_s": max(found), "back_s": max(back), "failed": len(failed)}


def wedged() -> dict[str, Any]:
    """A gateway that was restarted into a stuck one: from the attempt to the word for it."""
    with bench() as b:
        b.gateway.begin_fault("wedged")
        began = time.monotonic()
        b.gateway.drop()
        b.wait_for(lambda: b.manager.status().state == "dead")
        took = time.monotonic() - began
        b.gateway.end_fault("wedged")
    return {"most_s": took}


def lingering_id() -> dict[str, Any]:
    """The gateway holds the old client id for a minute."""
    took = []
    with bench(id_lingers_s=60) as b:
        for _ in range(3):
            b.gateway.drop()
            took.append(b.answered_after(datetime.now(UTC), 120))
            time.sleep(1.5)
        ids = b.gateway.client_ids
        failed = [o for o in b.asker.outcomes if o != "bars"]
    return {"most_s": max(took), "client_ids": ids, "failed": len(failed)}


def upstream(count: int) -> dict[str, Any]:
    """IB's servers are lost, and back."""
    took = []
    with bench() as b:
        for number in range(count):
            with b.gateway.connectivity_lost(1101 if number % 2 else 1102):
                time.sleep(3)
            took.append(b.answered_after(datetime.now(UTC), 60))
            time.sleep(0.5)
        connects = b.gateway.summary()["connects"]
    return {"most_s": max(took), "reconnects": connects - 1}


def farm_flaps(count: int) -> dict[str, Any]:
    """Farms break and come back; some leave a question unanswered."""
    with bench() as b:
        for number in range(count):
            with b.gateway.farm_broken("ushmds" if number % 2 else "usfarm"):
                if number % 4 == 1:
                    with b.gateway.unanswered("historical_data"):
                        time.sleep(2)
                else:
                    time.sleep(0.5)
            time.sleep(0.3)
        connects = b.gateway.summary()["connects"]
        failed = [o for o in b.asker.outcomes if o != "bars"]
        farms = [(f.name, f.breaks) for f in b.manager.status().farms if f.breaks]
    return {"reconnects": connects - 1, "failed": len(failed), "farms": farms}


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drops", type=int, default=30)
    parser.add_argument("--restart-s", type=float, default=90)
    options = parser.parse_args()
    two_beats = 2 * HEARTBEAT_S + 1
    always = FIRST_DELAY_S + 1
    found = {
        "drop": drops(options.drops),
        "restart": restart(options.restart_s),
        "half_open": half_open(2),
        "wedged": wedged(),
        "lingering_id": lingering_id(),
        "upstream": upstream(6),
        "farm_flaps": farm_flaps(12),
    }
    rows = [
        ("drop, gateway still there: median", found["drop"]["median_s"], "1.5 s"),
        ("drop, gateway still there: most", found["drop"]["most_s"], f"{always:g} s"),
        (
            "nightly restart, after the port opens",
            found["restart"]["most_s"],
            "2 s",
        ),
        ("half-open, found", found["half_open"]["most_s"], f"{two_beats:g} s"),
        ("wedged, found", found["wedged"]["most_s"], f"{two_beats:g} s"),
        ("id lingers 60 s after a drop", found["lingering_id"]["most_s"], "2 s"),
        ("1100 … 1102, after 1102", found["upstream"]["most_s"], "1 s, no reconnect"),
    ]
    for name, seconds, target in rows:
        print(f"{name:44} {seconds:8.2f} s   target {target}")
    print(f"{'farm flaps':44} {found['farm_flaps']}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
