"""The gap filler, a real connection and the simulated gateway: bad answers, splits, revisions."""

import contextlib
from datetime import UTC, datetime

import pytest

from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager
from ktrdr.data.ib_connection_manager import routes as connection_routes
from ktrdr.data.ib_gap_filler import GapFiller
from ktrdr.data.local_api import LocalClient, LocalServer
from ktrdr.planning.timeframes import Timeframe
from ktrdr.sim.hosting import running_gateway
from ktrdr.sim.market import GeneratedMarket
from tests.data.conftest import DAY, line, utc
from tests.data.fast_loop import FastLoop

HEADER = "timestamp,open,high,low,close,volume\n"
NOW = utc("2026-11-20 22:00")  # Friday, an hour after the close in New York
SPEED = 50.0


class Group:
    """A gateway, a connection to it and a gap filler, all of which go by one clock of the test's.

    The event loops run fast: what IB wants to be 15 s apart is so by their watches.
    """

    def __init__(self, stack, make_settings, data_dir, market):
        self.now = float(NOW)
        self.folder = data_dir
        self.market = market
        moment = lambda: datetime.fromtimestamp(self.now, UTC)  # noqa: E731
        self.gateway = stack.enter_context(
            running_gateway(market=market, now=moment, new_loop=lambda: FastLoop(SPEED))
        )
        settings = make_settings(ktrdr_sim_port=self.gateway.port, ktrdr_gap_max_age_days=6)
        self.manager = PersistentIbConnectionManager(
            settings, now=moment, new_loop=lambda: FastLoop(SPEED)
        )
        self.manager.start()
        stack.callback(self.manager.stop)
        server = LocalServer(settings.connection_socket, connection_routes(self.manager))
        self.manager.call(server.start(), 10)
        stack.callback(lambda: self.manager.call(server.stop(), 10))
        client = LocalClient(settings.connection_socket, "ib-connection")
        self.filler = GapFiller(settings, client, lambda: self.now)
        stack.callback(self.filler.close)

    def watch(self, name, rows=()):
        path = self.folder / f"{name}.csv"
        path.write_text(HEADER + "".join(line(bar) for bar in rows))
        return path

    def fill(self):
        """Until there is nothing left to do."""
        for _ in range(500):
            if not self.filler.step():
                return
        raise AssertionError("it never ends")

    def scan(self):
        self.filler.ask_for_scan()
        self.fill()

    def asked(self):
        """What was asked for bars that a store keeps, in IB's words."""
        return [e for e in self.gateway.record if e["kind"] == "historical_data"]

    def truth(self, symbol, timeframe, start, end):
        """The rows of the market as it is told at present."""
        today = datetime.fromtimestamp(self.now, UTC).date()
        contract = self.market.named(symbol, today)
        found = self.market.truth(contract, Timeframe(timeframe), start, end, today)
        return [bar for bar in found if bar.start < self.now]

    def problems(self):
        return [problem.message for problem in self.filler.status.recent_errors]


@pytest.fixture
def group(make_settings, data_dir, wait_for):
    with contextlib.ExitStack() as stack:
        group = Group(stack, make_settings, data_dir, GeneratedMarket(seed=5))
        wait_for(lambda: group.manager.is_connected)
        yield group


def text_of(bars):
    return HEADER + "".join(line(bar) for bar in bars)


RECENT = (utc("2026-11-16"), NOW)


@pytest.mark.parametrize("fault", ["doubled_bars", "unordered_bars"])
def test_bars_that_come_twice_or_out_of_order_are_stored_once_and_in_order(group, fault):
    path = group.watch("AAPL_5m")
    with group.gateway.fault(fault):
        group.fill()
    assert path.read_text() == text_of(group.truth("AAPL", "5m", *RECENT))
    assert group.problems() == []


def test_missing_bars_are_taken_for_absent_until_the_next_day(group):
    path = group.watch("AAPL_5m")
    there = group.truth("AAPL", "5m", *RECENT)
    with group.gateway.missing_bars(every=3):
        group.fill()
    stored = path.read_text()
    assert set(stored.splitlines()) < set(text_of(there).splitlines())
    assert set(group.filler.status.unfillable) == {"no_trades"}
    asked = len(group.asked())
    group.scan()
    assert len(group.asked()) == asked
    group.now += DAY + 1
    group.fill()
    assert path.read_text() == text_of(there)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("nan", "that cannot be, the first at 2026-11-16T"),
        ("inf", "that cannot be, the first at 2026-11-16T"),
        ("unset", "that cannot be, the first at 2026-11-16T"),
        ("low", "that cannot be, the first at 2026-11-16T"),
        ("half_minute", "that cannot be, the first at 2026-11-16T"),
        ("contradicting", "that cannot be, the first at 2026-11-16T"),
        ("night", "of times without trading, the first at 2026-11-17T02:35"),
    ],
)
def test_of_a_damaged_answer_what_is_sound_is_stored_and_the_rest_asked_for_again(group, how, why):
    path = group.watch("AAPL_5m")
    there = group.truth("AAPL", "5m", *RECENT)
    with group.gateway.wrong_bars(how):
        group.fill()
    stored = path.read_text()
    assert set(stored.splitlines()) < set(text_of(there).splitlines())
    (problem,) = group.problems()
    assert f"bars {why}" in problem
    assert "asked for 2026-11-16T14:30:00+00:00 to 2026-11-20T21:00:00+00:00" in problem
    assert set(group.filler.status.unfillable) == {"late"}
    asked = len(group.asked())
    group.scan()
    assert len(group.asked()) == asked, "not before an hour has passed"
    group.now += 3601
    group.fill()
    assert path.read_text() == text_of(there)
    assert group.filler.status.unfillable == {}


def test_an_answer_that_cannot_be_read_is_a_failure_and_waited_for_no_longer(group):
    path = group.watch("AAPL_5m")
    with group.gateway.wrong_bars("text"):
        group.fill()
    assert path.read_text() == HEADER
    assert "cannot be read" in group.problems()[0]
    (entry,) = group.filler.coverage["series"]
    assert set(entry["missing"]) == {"failed"}
    group.now += 301
    group.fill()
    assert path.read_text() == text_of(group.truth("AAPL", "5m", *RECENT))
