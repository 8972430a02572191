"""Bars with keepUpToDate, as a real client receives them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from ib_insync import IB, Forex, Stock
from ib_insync.wrapper import RequestError

from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.sim.market.market import truth

AAPL, EURUSD = Stock("AAPL", "SMART", "USD"), Forex("EURUSD")
OPEN = datetime(2026, 11, 23, 15, 30, 25, tzinfo=UTC)


class SetClock:
    """A clock that somebody sets."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


async def next_update(bars, wait_s=5):
    """The next update, as (is new, the last bar)."""
    received = asyncio.get_running_loop().create_future()

    def receive(bars, is_new):
        if not received.done():
            received.set_result((is_new, bars[-1]))

    bars.updateEvent += receive
    try:
        return await asyncio.wait_for(received, wait_s)
    finally:
        bars.updateEvent -= receive


@pytest.fixture
def with_clock():
    """`with_clock(work, now)`: what `await work(client, gateway, clock)` returns."""

    async def run(work, now):
        clock = SetClock(now)
        async with SimulatedGateway(now=clock) as gateway:
            client = IB()
            client.RaiseRequestErrors = True
            await client.connectAsync("127.0.0.1", gateway.port, clientId=1)
            try:
                return await work(client, gateway, clock)
            finally:
                client.disconnect()

    return lambda work, now=OPEN: asyncio.run(run(work, now))


def subscribed(client, contract, size, what="TRADES", duration="1 D", end=""):
    return client.reqHistoricalDataAsync(
        contract, end, duration, size, what, True, 2, keepUpToDate=True
    )


def test_the_bar_that_forms_grows_and_the_next_one_begins(with_clock):
    async def work(client, _, clock):
        bars = await subscribed(client, AAPL, "1 min", duration="600 S")
        first = bars[-1]
        count = len(bars)
        clock.now += timedelta(seconds=20)
        grown = await next_update(bars)
        clock.now += timedelta(seconds=30)
        await next_update(bars)  # how the minute before ended, and with it the next one
        while len(bars) == count:
            await next_update(bars)
        return first, grown, bars[-1], bars[-2]

    first, (is_new, grown), begun, ended = with_clock(work)
    assert not is_new
    assert (grown.date, grown.open) == (first.date, first.open)
    assert grown.volume > first.volume
    assert begun.date - first.date == timedelta(minutes=1)
    start = int(first.date.timestamp())
    known = truth("AAPL", "1m", start, start + 60)[0]
    assert (ended.high, ended.low, ended.close, ended.volume) == known[2:]


def test_days_are_kept_up_to_date_too(with_clock):
    async def work(client, _, clock):
        bars = await subscribed(client, EURUSD, "1 day", "MIDPOINT", "5 D")
        clock.now += timedelta(hours=3)
        return bars[-1].date, await next_update(bars), len(bars)

    day, (is_new, bar), count = with_clock(work)
    assert (is_new, bar.date, count) == (False, day, 5)


def test_the_forming_minute_is_updated_once_the_market_opens(with_clock):
    async def work(client, _, clock):
        bars = await subscribed(client, AAPL, "1 min", duration="600 S")
        with pytest.raises(TimeoutError):
            await next_update(bars, 0.6)
        clock.now = OPEN
        return await next_update(bars)

    is_new, bar = with_clock(work, datetime(2026, 11, 22, 18, tzinfo=UTC))
    assert is_new
    assert bar.date == OPEN.replace(second=0)


def test_it_ends_when_it_is_cancelled(with_clock):
    async def work(client, gateway, clock):
        bars = await subscribed(client, AAPL, "1 min")
        client.cancelHistoricalData(bars)
        await client.reqContractDetailsAsync(AAPL)
        clock.now += timedelta(minutes=5)
        with pytest.raises(TimeoutError):
            await next_update(bars, 0.6)
        return gateway.record

    record = with_clock(work)
    assert [e["event"] for e in record if e["kind"] == "historical_data"] == [
        "received",
        "answered",
    ]


@pytest.mark.parametrize(
    ("size", "end"),
    [("1 min", "20261120-20:00:00"), ("1 secs", "")],
    ids=["with an end", "seconds"],
)
def test_what_cannot_be_kept_up_to_date_is_refused(with_clock, size, end):
    async def work(client, *_):
        with pytest.raises(RequestError) as refused:
            await subscribed(client, AAPL, size, duration="600 S", end=end)
        return refused.value.code

    assert with_clock(work) == 321
