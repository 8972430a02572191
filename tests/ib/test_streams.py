"""Streams over a real connection to a simulated gateway, whose clock runs fast.

Where the machine is slow, updates seem to be far apart, and some bars are left to requests.
"""

import contextlib
from datetime import UTC, datetime

import pytest

from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager, routes
from ktrdr.errors import InvalidRequest
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.query import request_to_query
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.ipc.stream_messages import StreamsMessage
from ktrdr.market.instruments import instrument_for
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.market.market import truth

BEGIN = datetime(2026, 11, 18, 15, 2, 30, tzinfo=UTC)
SPEED = 15.0


def row(bar) -> tuple[float, ...]:
    return (float(bar.start), bar.open, bar.high, bar.low, bar.close, bar.volume)


class Streaming:
    """A gateway whose clock runs fast, and the socket of ib-connection."""

    def __init__(self, stack, make_settings, wait_for, **given):
        self.wait_for = wait_for
        self.gateway = stack.enter_context(running_gateway(start=BEGIN, speed=SPEED))
        settings = make_settings(ktrdr_sim_port=self.gateway.port, ktrdr_ib_heartbeat_s=1, **given)
        manager = PersistentIbConnectionManager(settings, now=self.gateway.now)
        manager.start()
        stack.callback(manager.stop)
        stack.enter_context(serving(LocalServer(settings.connection_socket, routes(manager))))
        wait_for(lambda: manager.is_connected)
        self.manager = manager
        self.client = LocalClient(settings.connection_socket, "ib-connection")
        self.run, self.number, self.bars = "", 0, []

    def want(self, symbol: str, timeframe=Timeframe.M1, **more: str) -> None:
        query = request_to_query(instrument_for(symbol), timeframe, 0, 1)
        self.client.post("/streams", **query, **more)

    def unwant(self, symbol: str) -> None:
        self.client.delete("/streams", symbol=symbol, timeframe="1m")

    def read(self) -> StreamsMessage:
        found = self.client.request(
            StreamsMessage, "GET", "/streams", 10, run=self.run,
            **({"after": str(self.number)} if self.number else {}), wait_s="1",
        )  # fmt: skip
        self.run, self.number = found.run, found.number
        self.bars += found.bars
        return found

    def until(self, what):
        return self.wait_for(lambda: what(self.read()), 30)

    def state_of(self, series: str) -> str:
        return next((one.state for one in self.read().streams if one.series == series), "")


@pytest.fixture
def start(make_settings, wait_for):
    with contextlib.ExitStack() as stack:
        yield lambda **given: Streaming(stack, make_settings, wait_for, **given)


def test_each_finished_bar_comes_once_and_as_the_market_has_it(start):
    streaming = start()
    streaming.read()
    streaming.want("EURUSD")
    streaming.want("AAPL")
    streaming.until(lambda _: len(streaming.bars) >= 8)
    for series in ("EURUSD", "AAPL"):
        found = [row(bar.bar) for bar in streaming.bars if bar.series == f"{series}_1m"]
        assert len(found) >= 2
        first, last = int(found[0][0]), int(found[-1][0])
        wanted = {one[0]: one for one in truth(series, "1m", first, last + 60, today=BEGIN.date())}
        assert found == [wanted[start] for start, *_ in found]
        assert [start for start, *_ in found] == sorted({start for start, *_ in found})


def test_streams_count_among_the_open_requests(start):
    streaming = start()
    before = streaming.manager.at_once
    for symbol in ("EURUSD", "USDJPY", "GBPUSD"):
        streaming.want(symbol)
    streaming.until(lambda found: sum(one.state == "open" for one in found.streams) == 3)
    assert streaming.manager.at_once <= 50 - 2 - 3
    assert streaming.manager.status().requests_open == 0
    streaming.unwant("USDJPY")
    assert streaming.state_of("USDJPY_1m") == ""
    assert before > 0


def test_a_stream_is_opened_anew_after_an_outage(start):
    streaming = start()
    streaming.read()
    streaming.want("EURUSD")
    streaming.until(lambda _: streaming.bars)
    streaming.gateway.drop_connections()
    before = len(streaming.bars)
    streaming.until(lambda _: len(streaming.bars) >= before + 2)
    with streaming.gateway.connectivity_lost(1101):
        pass
    before = len(streaming.bars)
    streaming.until(lambda _: len(streaming.bars) >= before + 2)
    opened = [e for e in streaming.gateway.record if e.get("kind") == "historical_data"]
    assert len([e for e in opened if e["event"] == "received" and e["bar_size"] == "1 min"]) == 3


def test_a_stream_that_is_overdue_is_opened_anew(start):
    streaming = start()
    streaming.want("EURUSD")
    streaming.until(lambda found: [one.state for one in found.streams] == ["open"])
    (since,) = [one.since for one in streaming.read().streams]
    streaming.want("EURUSD", overdue="true")
    streaming.until(
        lambda found: (
            [one.state for one in found.streams] == ["open"] and found.streams[0].since > since
        )
    )
    assert streaming.read().streams[0].error == "a bar was overdue"


def test_there_are_no_more_than_allowed_and_none_of_days(start):
    streaming = start(ktrdr_live_streams=1)
    streaming.want("EURUSD")
    with pytest.raises(InvalidRequest, match="1 streams already"):
        streaming.want("USDJPY")
    with pytest.raises(InvalidRequest, match="daily bars are not streamed"):
        streaming.want("AAPL", Timeframe.D1)


def test_what_ib_refuses_is_said_and_tried_again(start):
    streaming = start()
    with streaming.gateway.refused(kind="historical_data", code=162, text="not now"):
        streaming.want("EURUSD")
        found = streaming.until(
            lambda found: [one for one in found.streams if one.state == "waiting"]
        )
        assert "not now" in found[0].error
    streaming.until(lambda found: [one.state for one in found.streams] == ["open"])


def test_a_reader_that_is_too_far_behind_or_of_another_run_is_told(start):
    streaming = start()
    first = streaming.read()
    assert (first.bars, first.is_behind) == ((), False)
    streaming.run = "another"
    assert streaming.read().is_behind
    assert not streaming.read().is_behind
