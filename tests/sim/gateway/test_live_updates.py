"""Bars with keepUpToDate, as a real client receives them."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from ib_insync import Crypto, Forex, Stock
from ib_insync.wrapper import RequestError

from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.market.market import truth
from tests.sim.streaming import Forms, subscribed

AAPL, EURUSD = Stock("AAPL", "SMART", "USD"), Forex("EURUSD")
ILLIQ = Stock("ILLIQ", "SMART", "USD")
BTC = Crypto("BTC", "PAXOS", "USD")  # it is traded all the time
OPEN = datetime(2026, 11, 23, 15, 30, 25, tzinfo=UTC)


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
        clock.now = opened + timedelta(seconds=25)
        return await next_update(bars)

    opened = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)

    is_new, bar = with_clock(work, datetime(2026, 11, 22, 18, tzinfo=UTC))
    assert is_new
    assert bar.date == opened


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
    ("size", "what", "end"),
    [
        ("1 min", "TRADES", "20261120-20:00:00"),
        ("1 secs", "TRADES", ""),
        ("1 min", "BID_ASK", ""),
        ("1 min", "ADJUSTED_LAST", ""),
    ],
    ids=["with an end", "seconds", "bid and ask", "adjusted prices"],
)
def test_what_cannot_be_kept_up_to_date_is_refused(with_clock, size, what, end):
    async def work(client, *_):
        with pytest.raises(RequestError) as refused:
            await subscribed(client, AAPL, size, what, duration="600 S", end=end)
        return refused.value.code

    assert with_clock(work) == 321


async def at(clock, forms, second):
    """What comes once the clock shows this second after the begin of the minute of OPEN."""
    known = len(forms.seen)
    clock.now = OPEN.replace(second=0) + timedelta(seconds=second)
    return await forms.after(known)


def test_updates_come_on_multiples_of_five_seconds_and_the_next_bar_five_after_the_last(
    with_clock,
):
    async def work(client, _, clock):
        forms = Forms(client)
        await subscribed(client, AAPL, "1 min", duration="600 S")
        clock.now += timedelta(seconds=4)
        await client.reqContractDetailsAsync(AAPL)
        assert forms.seen == []
        return [await at(clock, forms, second) for second in (30, 55, 60, 65, 125)]

    steps = with_clock(work)
    minute = int(OPEN.timestamp()) // 60 * 60
    assert [[form[0] - minute for form in forms] for forms in steps] == [
        [0], [0], [0], [60], [60, 120],
    ]  # fmt: skip
    known = truth("AAPL", "1m", minute, minute + 120)
    assert [form[:6] for form in (steps[2][0], steps[4][0])] == known


def test_a_forming_bar_grows_and_ends_as_history_has_it(with_clock):
    async def work(client, _, clock):
        forms = Forms(client)
        await subscribed(client, AAPL, "1 min", duration="600 S")
        grown = [(await at(clock, forms, second))[0] for second in range(30, 65, 5)]
        settled = await client.reqHistoricalDataAsync(AAPL, "", "60 S", "1 min", "TRADES", True, 2)
        return grown, settled[-1]

    grown, settled = with_clock(work)
    for before, after in pairwise(grown):
        assert after[0] == before[0]
        assert after[1] == before[1]
        assert after[2] >= before[2]
        assert after[3] <= before[3]
        assert after[5] > before[5]
        assert after[7] >= before[7]
    assert all(low <= average <= high for _, _, high, low, _, _, average, _ in grown)
    assert grown[-1][1:] == (
        settled.open, settled.high, settled.low, settled.close,
        settled.volume, settled.average, settled.barCount,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("contract", "what", "volumes"),
    [
        (EURUSD, "MIDPOINT", {-1}),
        (AAPL, "BID", {-1}),
        (AAPL, "ASK", {-1}),
        (BTC, "AGGTRADES", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_quotes_and_coins_are_kept_up_to_date(with_clock, contract, what, volumes):
    async def work(client, _, clock):
        forms = Forms(client)
        await subscribed(client, contract, "1 min", what, duration="600 S")
        return await at(clock, forms, 60)

    (form,) = with_clock(work)
    assert form[0] == int(OPEN.timestamp()) // 60 * 60
    assert form[5] > 0 if volumes is None else form[5] in volumes


def test_without_a_trade_there_is_no_update_and_then_a_whole_bar(with_clock):
    async def work(client, _, clock):
        forms = Forms(client)
        bars = await subscribed(client, ILLIQ, "1 min", duration="3600 S", rth=False)
        witness = await subscribed(client, BTC, "1 min", "AGGTRADES", duration="600 S")
        for _ in range(68):
            known = len(forms.of(witness))
            clock.now += timedelta(seconds=5)
            await forms.after(known, witness)
        settled = await client.reqHistoricalDataAsync(
            ILLIQ, "", "3600 S", "1 min", "TRADES", False, 2
        )
        while (
            forms.of(bars)[-1][5] != settled[-1].volume
        ):  # the witness may be the first of the two
            await forms.after(len(forms.of(bars)), bars)
        return forms.of(bars), [bar for bar in settled if bar.date >= early.replace(second=0)]

    early = datetime(2026, 11, 23, 10, 18, 25, tzinfo=UTC)  # 05:18 in New York
    forms, settled = with_clock(work, early)
    assert 1 < len(settled) < 5
    assert all(form[5] > 0 for form in forms)
    last = {form[0]: form[5] for form in forms}
    assert last == {int(bar.date.timestamp()): bar.volume for bar in settled}


def test_an_update_has_no_more_than_the_last_five_seconds_ended_with(with_clock):
    def form(second):
        async def work(client, _, clock):
            forms = Forms(client)
            await subscribed(client, AAPL, "1 min", duration="600 S")
            return await at(clock, forms, second)

        return with_clock(work)

    assert form(30) == form(33) != form(35)


def test_after_the_close_nothing_comes(with_clock):
    async def work(client, _, clock):
        forms = Forms(client)
        bars = await subscribed(client, AAPL, "1 min", duration="600 S")
        witness = await subscribed(client, BTC, "1 min", "AGGTRADES", duration="600 S")
        for second in (60, 65, 125):
            known = len(forms.of(witness))
            clock.now = close - timedelta(seconds=60) + timedelta(seconds=second)
            await forms.after(known, witness)
        return forms.of(bars)

    close = datetime(2026, 11, 23, 21, tzinfo=UTC)
    forms = with_clock(work, close - timedelta(seconds=35))
    (row,) = truth("AAPL", "1m", int(close.timestamp()) - 60, int(close.timestamp()) + 600)
    assert [form[:6] for form in forms] == [row]


def test_a_stream_counts_as_an_open_request_until_it_is_cancelled(with_clock):
    async def work(client, gateway, _):
        errors = []
        client.errorEvent += lambda _id, code, *_: errors.append(code)
        bars = await subscribed(client, AAPL, "1 min")
        with pytest.raises(RequestError, match="Only 1 simultaneous"):
            await subscribed(client, EURUSD, "1 min", "MIDPOINT")
        client.cancelHistoricalData(bars)
        await subscribed(client, EURUSD, "1 min", "MIDPOINT")
        client.client.cancelHistoricalData(bars.reqId)
        await client.reqContractDetailsAsync(AAPL)
        return errors, gateway.summary()["violations"]

    errors, violations = with_clock(work, limits=Limits(open_requests=1))
    assert errors == [322, 162, 366]
    assert violations == {"open_requests": 1}
