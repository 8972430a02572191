"""What a gateway that tells lies costs: the same store from one that does not, by the same clock.

The clock is set by hand: five minutes at a time for an hour, in which each kind of lie is told for
a share of the questions, then in steps that grow, until all that IB has is there. Prints how many
requests either took, and a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_filling import DAYS, SATURDAY, Series, bar_requests, known, medium_store, read

from ktrdr.config.settings import load_settings
from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager, routes
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.server import LocalServer
from ktrdr.sim.gateway.in_thread import running_gateway

LIES: dict[str, dict[str, Any]] = {
    "false_no_data": {"kind": "data"},
    "false_200": {},
    "cut_bars": {"lost": "newest", "share": 0.5},
    "cut_schedule": {"lost": "newest"},
    "late_head": {"days": 10},
}
"""All of them at once; of `cut_*` the newest part, without which a series ends too soon."""
HOUR, DAY = 3600, 86400
WHILE_LYING = [300] * 12
AFTERWARDS = [300, 300, HOUR, HOUR, 4 * HOUR, 6 * HOUR, 12 * HOUR, HOUR, DAY, DAY, DAY]
"""To four days after the first lie."""


class Clock:
    """Of the gateway and of ours; it stands still until it is set."""

    def __init__(self) -> None:
        self.now = SATURDAY.timestamp()

    def moment(self) -> datetime:
        """Now."""
        return datetime.fromtimestamp(self.now, UTC)


@contextlib.contextmanager
def filler_of(folder: Path, port: int, clock: Clock) -> Iterator[GapFiller]:
    """Connected, and ready to be stepped."""
    settings = load_settings(
        _env_file=None,
        ib_host=None,
        ktrdr_sim_port=port,
        ktrdr_run_dir=folder.with_name("run"),
        ktrdr_data_dir=folder,
        ktrdr_gap_max_age_days=DAYS,
    )
    manager = PersistentIbConnectionManager(settings, now=clock.moment)
    manager.start()
    server = LocalServer(settings.connection_socket, routes(manager))
    manager.call(server.start(), 5)
    connection = LocalClient(settings.connection_socket, "ib-connection")
    filler = GapFiller(settings, connection, lambda: clock.now)
    try:
        while not manager.is_connected:
            time.sleep(0.01)
        yield filler
    finally:
        filler.close()
        manager.call(server.stop(), 5)
        manager.stop()


def missing(store: Path, all_series: list[Series]) -> int:
    """How many bars that were cut out are not there."""
    return sum(len(set(one.missing) - read(store, one).keys()) for one in all_series)


def filled(rate: float, seed: int) -> dict[str, Any]:
    """Fill the medium store while this share of the questions gets a lie of each kind."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch:
        store = Path(scratch) / "data"
        store.mkdir()
        all_series = medium_store(store)
        clock = Clock()
        with (
            running_gateway(now=clock.moment, seed=seed) as gateway,
            filler_of(store, gateway.port, clock) as filler,
        ):
            left: list[int] = []
            requested: list[int] = []
            for name, values in LIES.items() if rate else ():
                gateway.begin_fault(name, rate=rate, **values)
            for number, step_s in enumerate([0, *WHILE_LYING, *AFTERWARDS]):
                clock.now += step_s
                if number == len(WHILE_LYING):
                    for name in list(gateway.faults):
                        gateway.end_fault(name)
                while filler.step():
                    pass
                left.append(missing(store, all_series))
                requested.append(len(bar_requests(gateway.record)))
            status = filler.status
            record, summary = gateway.record, gateway.summary()
            states = {one.file: one.state for one in known(filler)}
        received = [e["kind"] for e in record if e["event"] == "received"]
        kinds = {kind: received.count(kind) for kind in sorted(set(received))}
        return {
            "asked": requested,
            "state": f"{status.state} {status.reason}",
            "kinds": kinds,
            "lies": sum(summary["verdicts"].get(name, 0) for name in LIES),
            "left": left,
            "violations": summary["violations"],
            "not_complete": {file: state for file, state in states.items() if state != "complete"},
        }


def main() -> None:
    """Run both and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    true, false = filled(0, options.seed), filled(options.rate, options.seed)
    fill = true["asked"][true["left"].index(0)]
    print(f"{'requests for bars, without a lie':44} {fill}, and those for new bars")
    if 0 in false["left"]:
        done = false["left"].index(0)
        more = false["asked"][-1] - true["asked"][-1]  # what comes later is asked for by both
        share = f"{fill + more} / {fill} = {(fill + more) / fill:.2f}"
        print(f"{'with lies for an hour, until all is there':44} {share:24} target <= 1.5")
        waited_s = sum([0, *WHILE_LYING, *AFTERWARDS][: done + 1])
        print(f"{'hours until then':44} {waited_s / HOUR:.1f}")
    print(f"{'lies':44} {false['lies']}")
    print(f"{'bars missing after each step':44} {false['left']}")
    print(f"{'violations':44} {false['violations'] or 0}")
    print(json.dumps({"true": true, "false": false}))


if __name__ == "__main__":
    main()
