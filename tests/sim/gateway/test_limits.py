import asyncio

import pytest
from ib_insync import IB, Forex, Stock
from ib_insync.wrapper import RequestError

from ktrdr.sim.gateway.limits import HistoryPace, Limits, MessageRate
from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.sim.gateway.wire import Request
from ktrdr.sim.market.contracts import Query

AAPL, EURUSD = Stock("AAPL", "SMART", "USD"), Forex("EURUSD")
SMALL = Query(symbol="AAPL", sec_type="STK")


def small(end="", size="5 secs", what="TRADES", symbol="AAPL"):
    query = Query(symbol=symbol, sec_type="STK")
    return Request("historical_data", 1, query, end, "60 S", size, what)


def broken(pace, request, now_s):
    violation = pace.check(request, now_s)
    return violation and violation.limit


def test_an_identical_small_request_is_refused_for_fifteen_seconds():
    pace = HistoryPace(Limits())
    assert [broken(pace, small(), at) for at in (0, 3, 14.9, 15.1)] == [
        None,
        "identical",
        "identical",
        None,
    ]


def test_the_sixth_small_request_for_a_contract_within_two_seconds_is_refused():
    pace = HistoryPace(Limits())
    requested = [broken(pace, small(str(n)), n / 10) for n in range(6)]
    assert requested == [None] * 5 + ["burst"]
    assert broken(pace, small("other", symbol="MSFT"), 0.6) is None
    assert broken(pace, small("other", what="BID"), 0.6) is None
    assert broken(pace, small("later"), 2.05) is None


@pytest.mark.parametrize(("what", "allowed"), [("TRADES", 60), ("BID_ASK", 30)])
def test_sixty_small_requests_in_ten_minutes_are_allowed_and_bid_ask_counts_twice(what, allowed):
    pace = HistoryPace(Limits())
    requested = [broken(pace, small(str(n), what=what), n * 5) for n in range(allowed + 1)]
    assert requested == [None] * allowed + ["ten_minutes"]
    assert broken(pace, small("later", what=what), 606) is None


@pytest.mark.parametrize("size", ["1 min", "1 hour", "1 day"])
def test_the_small_bar_rules_are_not_for_larger_bars(size):
    pace = HistoryPace(Limits())
    assert {broken(pace, small(size=size), 0) for _ in range(100)} == {None}


def test_the_soft_limit_slows_down_and_ends_in_a_disconnect():
    pace = HistoryPace(Limits(soft_per_min=10, soft_delay_s=0.5, soft_disconnect=3))
    for n in range(12):
        assert pace.check(small(str(n), "1 min"), 0) is None
    assert pace.delay_s(0) == 1.0
    assert pace.delay_s(1000) == 0
    for n in range(12):
        assert pace.check(small(str(n), "1 min"), 0) is None
    for n in range(12, 30):
        assert pace.check(small(str(n), "1 min"), 1) is None
    assert pace.check(small("31", "1 min"), 2).is_end
    assert pace.check(small("32", "1 min"), 62) is None
    assert pace.delay_s(62) == 0


def test_a_rate_of_45_messages_is_kept_however_they_bunch_up():
    rate = MessageRate(Limits())
    for second in range(20):
        late = 0.1 if second % 2 else 0
        assert {rate.check(second + late) for _ in range(45)} == {None}


def test_too_many_messages_get_errors_and_end_the_connection_if_it_goes_on():
    rate = MessageRate(Limits())
    first = [rate.check(0) for _ in range(60)]
    assert first[:50] == [None] * 50
    assert all(v.refused.code == 100 and not v.is_end for v in first[50:])
    for _ in range(60):
        second = rate.check(1.1)
    for _ in range(60):
        third = rate.check(2.2)
    assert (second.is_end, third.is_end) == (False, True)


# From here on with a real client.


def seconds(client, size="5 secs", end="", contract=AAPL, what="TRADES"):
    return client.reqHistoricalDataAsync(contract, end, "60 S", size, what, False)


async def code_of(requested):
    """The error that a request gets; None: it was answered."""
    try:
        await requested
    except RequestError as error:
        return error.code, error.message
    return None


def loss_of(client):
    """An event that is set when the client's connection is lost."""
    lost = asyncio.Event()
    client.disconnectedEvent += lost.set
    return lost


def verdicts(gateway):
    return [e["verdict"] for e in gateway.events if e["event"] == "violation"]


PACED = "Historical Market Data Service error message:Historical data request pacing violation"


def test_the_same_head_timestamp_again_is_a_pacing_violation(with_client):
    async def work(client, gateway):
        requested = [
            await code_of(client.reqHeadTimeStampAsync(AAPL, "TRADES", True, 1)) for _ in "ab"
        ]
        return requested, verdicts(gateway), gateway.summary()

    requested, violations, summary = with_client(work)
    assert requested == [None, (162, PACED)]
    assert violations == ["identical"]
    assert (summary["violations"], summary["repeats"]) == ({"identical": 1}, 1)


def test_a_client_that_hurries_through_one_contract_gets_a_pacing_violation(with_client):
    async def work(client, gateway):
        for n in range(6):
            last = await code_of(seconds(client, end=f"20261120-15:00:{n:02}"))
        other = await code_of(seconds(client, contract=EURUSD, what="MIDPOINT"))
        return last, verdicts(gateway), other

    last, violations, other = with_client(work)
    assert last == (162, PACED)
    assert violations == ["burst"]
    assert other is None or "pacing" not in other[1]


def test_too_many_requests_for_small_bars_are_a_pacing_violation(with_client):
    async def work(client, gateway):
        for symbol in ("AAPL", "MSFT", "GOOG", "AMZN"):
            last = await code_of(
                client.reqHeadTimeStampAsync(Stock(symbol, "SMART", "USD"), "TRADES", True, 1)
            )
        return last, verdicts(gateway)

    assert with_client(work, limits=Limits(in_10_min=3)) == ((162, PACED), ["ten_minutes"])


def test_the_51st_open_request_gets_322_and_the_others_their_answer(with_client):
    async def work(client, gateway):
        client.client.MaxRequests = 0
        ends = [f"20261120-20:{n:02}:00" for n in range(51)]
        attempts = (
            client.reqHistoricalDataAsync(AAPL, end, "1 D", "1 hour", "TRADES", True)
            for end in ends
        )
        codes = await asyncio.gather(*map(code_of, attempts))
        return codes, gateway.summary()

    codes, summary = with_client(work, latency_s=0.5, limits=Limits(messages_per_s=None))
    assert codes[:50] == [None] * 50
    assert codes[50][0] == 322
    assert "Only 50 simultaneous" in codes[50][1]
    assert (summary["most_in_flight"], summary["violations"]) == (50, {"open_requests": 1})


def test_a_client_over_the_soft_limit_waits_longer_and_is_disconnected_far_beyond_it(with_client):
    async def work(client, gateway):
        times = []
        loop = asyncio.get_running_loop()
        for n in range(4):
            began = loop.time()
            await seconds(client, "1 min", f"20261120-15:0{n}:00")
            times.append(loop.time() - began)
        lost = loss_of(client)
        requested = asyncio.ensure_future(code_of(seconds(client, "1 min")))
        await asyncio.wait_for(lost.wait(), 5)
        requested.cancel()
        return times, verdicts(gateway)

    limits = Limits(soft_per_min=2, soft_delay_s=0.2, soft_disconnect=2)
    times, violations = with_client(work, limits=limits)
    assert times[3] >= 0.4 > times[2] >= 0.2
    assert violations == ["load"]


def test_a_client_that_sends_too_fast_gets_100_and_is_disconnected_when_it_goes_on(with_client):
    async def work(client, gateway):
        client.client.MaxRequests = 0
        codes = []
        client.errorEvent += lambda _id, code, *_: codes.append(code)
        lost = loss_of(client)
        while not lost.is_set():
            client.client.reqCurrentTime()
            await asyncio.sleep(0.005)
        return set(codes), set(verdicts(gateway))

    assert with_client(work, limits=Limits(messages_per_s=30)) == ({100}, {"messages"})


def test_the_33rd_client_is_disconnected():
    async def main():
        async with SimulatedGateway() as gateway:
            clients = [IB() for _ in range(32)]
            await asyncio.gather(
                *(c.connectAsync("127.0.0.1", gateway.port, n) for n, c in enumerate(clients, 1))
            )
            with pytest.raises((TimeoutError, ConnectionError)):
                await IB().connectAsync("127.0.0.1", gateway.port, 33, timeout=0.5)
            ids = gateway.client_ids
            for client in clients:
                client.disconnect()
            return ids, verdicts(gateway), gateway.summary()["most_clients"]

    assert asyncio.run(main()) == (list(range(1, 33)), ["clients"], 32)


async def enters(gateway, client_id):
    """Connect and leave; the error codes on the way."""
    client, codes = IB(), []
    client.errorEvent += lambda _id, code, *_: codes.append(code)
    try:
        await client.connectAsync("127.0.0.1", gateway.port, client_id, timeout=0.5)
    except (TimeoutError, ConnectionError):
        return codes
    client.disconnect()
    return "in"


def test_the_id_of_a_client_that_was_dropped_lingers():
    async def main():
        async with SimulatedGateway(limits=Limits(id_lingers_s=1.0)) as gateway:
            client = IB()
            await client.connectAsync("127.0.0.1", gateway.port, 4)
            await gateway.drop_connections()
            at_once, other = await enters(gateway, 4), await enters(gateway, 5)
            while (later := await enters(gateway, 4)) != "in":
                assert later == [326]
            return at_once, other

    assert asyncio.run(main()) == ([326], "in")


def test_the_most_messages_of_a_client_within_a_second_are_known(with_client):
    async def work(client, gateway):
        for _ in range(3):
            await client.reqContractDetailsAsync(AAPL)
        return gateway.summary()["most_messages_per_s"]

    assert with_client(work) >= 3


def test_messages_are_counted_in_every_second_and_not_by_the_clock():
    rate = MessageRate(Limits())
    assert [rate.count(at) for at in (0.5, 0.9, 1.4, 1.6, 3.0)] == [1, 2, 3, 3, 1]
