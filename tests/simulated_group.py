"""A gateway, a connection and a gap filler together, by one clock that the test sets."""

from datetime import UTC, datetime

from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager
from ktrdr.data.ib_connection_manager import routes as connection_routes
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.in_thread import running_gateway
from tests.fake_connection import coverage_of, line, utc
from tests.fast_loop import FastLoop

HEADER = "timestamp,open,high,low,close,volume\n"
NOW = utc("2026-11-20 22:00")  # Friday, an hour after the close in New York


class Group:
    """A gateway, a connection to it and a gap filler, all of which go by one clock of the test's.

    The event loops run fast: what IB wants to be 15 s apart is so by their watches.
    """

    def __init__(self, stack, make_settings, data_dir, market, *, speed=10.0, seed=1, **given):
        """`speed`: of the loops; `seed`: by which the gateway's faults strike."""
        self.now = float(NOW)
        self.off_s = 0.0
        """How much this machine's clock is ahead of the gateway's."""
        self.boot = "first"
        """The run of this machine."""
        self.folder = data_dir
        self.market = market
        moment = lambda: datetime.fromtimestamp(self.now, UTC)  # noqa: E731
        self.gateway = stack.enter_context(
            running_gateway(market=market, now=moment, seed=seed, new_loop=lambda: FastLoop(speed))
        )
        chosen = {"ktrdr_sim_port": self.gateway.port, "ktrdr_gap_max_age_days": 6} | given
        settings = make_settings(**chosen)
        self.manager = PersistentIbConnectionManager(
            settings,
            now=lambda: datetime.fromtimestamp(self.now + self.off_s, UTC),
            new_loop=lambda: FastLoop(speed),
        )
        self.manager.start()
        stack.callback(self.manager.stop)
        server = LocalServer(settings.connection_socket, connection_routes(self.manager))
        stack.enter_context(serving(server))
        self.settings = settings
        self.start_filler()
        stack.callback(self.end_filler)

    def start_filler(self, store=None):
        client = LocalClient(self.settings.connection_socket, "ib-connection")
        wall = lambda: self.now + self.off_s  # noqa: E731
        self.filler = GapFiller(
            self.settings,
            client,
            wall,
            store=store,
            monotonic=lambda: self.now,
            boot=self.boot,
        )

    def end_filler(self):
        self.filler.close()

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
        self.filler.request_scan()
        self.fill()

    def requested(self):
        """The questions for bars, in IB's words."""
        record = self.gateway.record
        return [e for e in record if (e["event"], e["kind"]) == ("received", "historical_data")]

    def truth(self, symbol, timeframe, start, end, *, minutes=0):
        """The rows of the market as it is told at present; `minutes`: on a grid later by these."""
        today = datetime.fromtimestamp(self.now, UTC).date()
        contract = self.market.named(symbol, today)
        found = self.market.truth(
            contract, Timeframe(timeframe), start, int(end), today, 60 * minutes
        )
        return [bar for bar in found if bar.start < self.now]

    def market_until(self, symbol, timeframe, start, end):
        """All rows of the market up to a time to come, as it will be told then."""
        today = datetime.fromtimestamp(end, UTC).date()
        contract = self.market.named(symbol, today)
        return self.market.truth(contract, Timeframe(timeframe), start, end, today)

    def problems(self):
        return [problem.message for problem in self.filler.status.recent_errors]


def state(group):
    """Of its only series."""
    return coverage_of(group.filler)["series"][0]["state"]


def later(group, seconds):
    """Look again so much later."""
    group.now += seconds
    group.fill()


def rows(path):
    """The lines of a file behind its header."""
    return path.read_text().splitlines(keepends=True)[1:]
