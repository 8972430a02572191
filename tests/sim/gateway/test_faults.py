"""A real client meets every fault, and none after its block has ended."""

import asyncio
import contextlib
import math
import sys
from datetime import timedelta
from itertools import pairwise

import pytest
from ib_insync import IB, Stock
from ib_insync.wrapper import RequestError

from ktrdr.errors import InvalidRequest
from ktrdr.sim.gateway.faults import FAULTS
from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.gateway.server import SimulatedGateway

AAPL = Stock("AAPL", "SMART", "USD")
SHORT_S, LONG_S = 0.3, 10
"""Long enough to say that an answer does not come: others take a hundredth of it; and how long
one that will come is waited for, on a machine that is busy.
"""


def bars(client, duration="1 D", size="5 mins", format_date=1):
    return client.reqHistoricalDataAsync(
        AAPL, "20261120-22:00:00", duration, size, "TRADES", True, format_date
    )


async def hangs(request):
    return not await is_answered(request, SHORT_S)


async def is_answered(request, timeout_s=LONG_S):
    try:
        await asyncio.wait_for(request, timeout_s)
    except TimeoutError:
        return False
    return True


async def refused(request):
    with pytest.raises(RequestError) as error:
        await request
    return error.value.code, error.value.message


async def until(is_so):
    while not is_so():  # noqa: ASYNC110  what is waited for has no event
        await asyncio.sleep(0.001)


async def lost(client):
    await asyncio.wait_for(until(lambda: not client.isConnected()), 5)


async def new_client(gateway, client_id=2, timeout_s=LONG_S):
    """Another client; None when it cannot connect."""
    client = IB()
    client.RaiseRequestErrors = True
    with contextlib.suppress(OSError, TimeoutError):
        await client.connectAsync("127.0.0.1", gateway.port, client_id, timeout=timeout_s)
    return client if client.isConnected() else None


async def can_connect(gateway, client_id=2, timeout_s=LONG_S):
    client = await new_client(gateway, client_id, timeout_s)
    if client:
        client.disconnect()
    return client is not None


def codes_of(client):
    codes = []
    client.errorEvent += lambda _id, code, *_: codes.append(code)
    return codes


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_drop_ends_every_connection_and_the_client_can_come_back(with_client, how):
    async def work(client, gateway):
        gateway.drop(how)
        await lost(client)
        return await can_connect(gateway)

    assert with_client(work)


def test_a_connection_can_be_dropped_again_while_it_ends(with_client):
    async def work(client, gateway):
        for _ in range(20):
            gateway.drop()
            await asyncio.sleep(0)
        await lost(client)

    with_client(work)


def test_a_drop_by_rst_is_seen_as_a_reset():
    async def main():
        async with SimulatedGateway() as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"API\0\0\0\0\x09v157..176")
            assert await reader.read(100)
            gateway.drop("rst")
            with pytest.raises(ConnectionResetError):
                await reader.read(100)
            writer.close()

    asyncio.run(main())


def test_a_refusing_gateway_keeps_open_connections(with_client):
    async def work(client, gateway):
        with gateway.refusing():
            assert not await can_connect(gateway, timeout_s=SHORT_S)
            assert await is_answered(bars(client))
        return await can_connect(gateway)

    assert with_client(work)


def test_a_half_open_connection_stays_open_and_sends_nothing(with_client):
    async def work(client, gateway):
        with gateway.half_open():
            assert await hangs(bars(client))
            assert client.isConnected()
            assert await can_connect(gateway)
        assert await is_answered(bars(client))
        return gateway.summary()["swallowed"]

    assert with_client(work)["half_open"] >= 1


def test_a_response_that_half_open_swallows_is_recorded_as_swallowed(with_client):
    async def work(client, gateway):
        request = asyncio.ensure_future(bars(client))
        await until(lambda: gateway.summary()["in_flight"] == 1)
        with gateway.half_open():
            assert await hangs(request)
            eaten = gateway.summary()
        client.disconnect()
        await until(lambda: gateway.client_ids == [])
        return eaten, gateway.summary()["in_flight"]

    eaten, in_flight = with_client(work, latency_s=0.1)
    assert (eaten["bars"], eaten["swallowed"]) == (0, {"half_open": 1})
    assert in_flight == 0


def test_a_request_during_the_outage_is_not_answered_though_its_response_was_due_later(with_client):
    async def work(client, gateway):
        with gateway.connectivity_lost():
            request = asyncio.ensure_future(bars(client))
            await until(lambda: gateway.summary()["in_flight"] == 1)
        return await hangs(request)

    assert with_client(work, latency_s=0.1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("notice", {"code": "abc"}),
        ("notice", {"code": "inf"}),
        ("missing_bars", {"every": 0}),
        ("slow_drip", {"bytes_per_s": -5}),
        ("late", {"seconds": -3}),
        ("too_early", {"count": -1}),
    ],
)
def test_a_senseless_value_is_named(name, values):
    with pytest.raises(InvalidRequest, match=next(iter(values))):
        FAULTS[name].read(values)


def test_a_wedged_gateway_accepts_and_sends_nothing(with_client):
    async def work(client, gateway):
        with gateway.wedged():
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"API\0\0\0\0\x09v157..176")
            assert await hangs(reader.read(1))
            assert not await can_connect(gateway, timeout_s=SHORT_S)
            assert await is_answered(bars(client))
        writer.close()
        return await can_connect(gateway)

    assert with_client(work)


def test_the_first_connection_comes_too_early_and_the_second_does_not(with_client):
    async def work(_, gateway):
        with gateway.too_early():
            first = await can_connect(gateway, 2, SHORT_S)
            return [first, await can_connect(gateway, 3)]

    assert with_client(work) == [False, True]


def test_an_untrusted_client_is_disconnected_before_the_greeting(with_client):
    async def work(_client, gateway):
        with gateway.untrusting():
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"API\0\0\0\0\x09v157..176")
            received = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            is_let_in = await can_connect(gateway, timeout_s=SHORT_S)
        return received, is_let_in, await can_connect(gateway)

    assert with_client(work) == (b"", False, True)


def test_an_old_version_is_refused_by_the_client(with_client):
    async def work(_client, gateway):
        with gateway.outdated(140):
            client = IB()
            received = []
            client.client.apiError += received.append
            with contextlib.suppress(TimeoutError):
                await client.connectAsync("127.0.0.1", gateway.port, 2, timeout=SHORT_S)
        return received[0], await can_connect(gateway)

    assert with_client(work) == ("TWS/gateway version must be >= 972", True)


def test_a_stall_delays_everything_until_its_end(with_client):
    async def work(client, gateway):
        with gateway.stalled():
            request = asyncio.ensure_future(bars(client))
            assert await hangs(asyncio.shield(request))
        return len(await asyncio.wait_for(request, 5))

    assert with_client(work) == 78


def test_a_slow_drip_sends_the_whole_response_late(with_client):
    async def work(client, gateway):
        begin = asyncio.get_running_loop().time()
        with gateway.slow_drip(10_000):
            got = await bars(client)
        return len(got), asyncio.get_running_loop().time() - begin

    count, took_s = with_client(work)
    assert count == 78
    assert took_s > 0.3  # about 5,000 bytes


def test_a_truncated_message_is_never_an_answer(with_client):
    async def work(client, gateway):
        with gateway.truncating():
            request = asyncio.ensure_future(bars(client))
            await lost(client)
            with pytest.raises(ConnectionError):
                await request
        return await can_connect(gateway)

    assert with_client(work)


def test_after_garbage_a_client_waits_because_of_a_false_length(with_client):
    async def work(client, gateway):
        gateway.garbage()
        assert await hangs(bars(client))
        assert client.isConnected()
        return await can_connect(gateway)

    assert with_client(work)


@pytest.mark.parametrize("back", [1101, 1102])
def test_no_request_is_answered_while_connectivity_is_lost_and_new_ones_are_after_it(
    with_client, back
):
    async def work(client, gateway):
        codes = codes_of(client)
        early = asyncio.ensure_future(bars(client))
        await until(lambda: gateway.record[-1]["kind"] == "historical_data")
        with gateway.connectivity_lost(back):
            assert await hangs(bars(client))
            assert await client.reqCurrentTimeAsync()
        assert await is_answered(bars(client))
        assert not early.done()
        early.cancel()
        return codes

    assert with_client(work, latency_s=0.05) == [1100, back]


@pytest.mark.parametrize("code", [1100, 1101, 1102, 2103, 2104, 2105, 2106, 2107, 2108, 2110])
def test_every_notice_reaches_the_client_and_the_connection_lives(with_client, code):
    async def work(client, gateway):
        codes = codes_of(client)
        gateway.notice(code)
        assert await client.reqCurrentTimeAsync()
        return codes

    assert with_client(work) == [code]


@pytest.mark.parametrize(
    ("farm", "codes"),
    [("usfarm", [2103, 2104]), ("ushmds", [2105, 2106]), ("secdefil", [2157, 2158])],
)
def test_a_farm_breaks_and_is_well_again(with_client, farm, codes):
    async def work(client, gateway):
        seen = codes_of(client)
        with gateway.farm_broken(farm):
            pass
        await client.reqCurrentTimeAsync()
        return seen

    assert with_client(work) == codes


async def outcome(request):
    """`bars`, or what is said in their place."""
    try:
        await request
    except RequestError as error:
        return error.code, error.message.partition(":")[2].split(".")[0]
    return "bars"


NO_FARM = (162, "HMDS server disconnect occurred")


@pytest.mark.parametrize(
    ("received", "codes"), [("yes", [2105, 162, 2106]), ("no", [162]), ("begin", [2105, 162])]
)
def test_without_its_farm_all_history_is_refused_with_or_without_notices(
    with_client, received, codes
):
    async def work(client, gateway):
        seen = codes_of(client)
        with gateway.farm_broken(told=received):
            refused = await outcome(bars(client))
        return refused, await outcome(bars(client)), seen

    assert with_client(work) == (NO_FARM, "bars", codes)


@pytest.mark.parametrize("farm", ["usfarm", "euhmds", "secdefil"])
def test_another_farm_takes_no_history_away(with_client, farm):
    async def work(client, gateway):
        with gateway.farm_broken(farm):
            return await outcome(bars(client))

    assert with_client(work) == "bars"


def test_a_client_that_connects_while_a_farm_is_broken_receives_the_notice(with_client):
    async def work(_, gateway):
        with gateway.farm_broken():
            newer = IB()
            codes = codes_of(newer)
            await newer.connectAsync("127.0.0.1", gateway.port, 2)
            newer.disconnect()
        return sorted(code for code in codes if code in (2105, 2106))

    assert with_client(work) == [2105]


def test_the_time_is_sent_once_a_second(with_client):
    async def work(client, gateway):
        with gateway.fault("time_once"):
            first = await is_answered(client.reqCurrentTimeAsync())
            second = await hangs(client.reqCurrentTimeAsync())
            await asyncio.sleep(1.1)
            return first, second, await is_answered(client.reqCurrentTimeAsync())

    assert with_client(work) == (True, True, True)


@pytest.mark.parametrize("fault", ["restart", "logged_out"])
def test_a_restart_and_a_log_out_send_everybody_away_and_close_the_port(with_client, fault):
    async def work(client, gateway):
        with gateway.fault(fault):
            await lost(client)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", gateway.port)
        return await can_connect(gateway)

    assert with_client(work)


def test_a_log_out_outlasts_a_restart(with_client):
    async def work(_, gateway):
        with gateway.logged_out():
            with gateway.restarting():
                pass
            assert not await can_connect(gateway, timeout_s=SHORT_S)
        return await can_connect(gateway)

    assert with_client(work)


def test_a_fault_ends_by_itself_after_for_s(with_client):
    async def work(_, gateway):
        gateway.begin_fault("restart", for_s=0.05)
        assert not await can_connect(gateway, timeout_s=SHORT_S)
        await asyncio.wait_for(until(lambda: not gateway.faults), 5)
        return await can_connect(gateway)

    assert with_client(work)


@pytest.mark.parametrize(
    ("code", "words"), [(162, "different IP address"), (10197, "competing live session")]
)
def test_a_competing_session_refuses_history(with_client, code, words):
    async def work(client, gateway):
        with gateway.competing_session(code):
            received = await refused(bars(client))
            assert await client.reqContractDetailsAsync(AAPL)
        assert await is_answered(bars(client))
        return received

    received = with_client(work)
    assert received[0] == code
    assert words in received[1]


def test_a_false_200_denies_contracts_that_exist(with_client):
    async def work(client, gateway):
        with gateway.false_200():
            codes = [
                (await refused(bars(client)))[0],
                (await refused(client.reqContractDetailsAsync(AAPL)))[0],
            ]
        assert await client.reqContractDetailsAsync(AAPL)
        return codes

    assert with_client(work) == [200, 200]


def test_a_request_is_never_answered_but_can_be_cancelled(with_client):
    async def work(client, gateway):
        with gateway.unanswered("historical_data"):
            request = asyncio.ensure_future(bars(client))
            assert await hangs(asyncio.shield(request))
            assert await client.reqContractDetailsAsync(AAPL)
            client.client.cancelHistoricalData(gateway.record[-3]["request_id"])
            return await refused(request), gateway.summary()

    (code, words), summary = with_client(work)
    assert (code, "cancelled" in words) == (162, True)
    assert summary["swallowed"] == {"unanswered": 1}
    assert summary["in_flight"] == 0


def test_bars_is_another_word_for_historical_data(with_client):
    async def work(client, gateway):
        with gateway.unanswered("bars"):
            return await hangs(bars(client)), bool(await client.reqContractDetailsAsync(AAPL))

    assert with_client(work) == (True, True)


@pytest.mark.parametrize(
    ("fault", "values"),
    [
        ("unanswered", {"kind": "candles"}),
        ("refused", {"kind": "candles"}),
        ("false_no_data", {"kind": ""}),
        ("farm_broken", {"farm": "usa"}),
        ("farm_broken", {"told": "perhaps"}),
    ],
)
def test_a_value_that_a_fault_does_not_know_is_refused(fault, values):
    ((name, value),) = values.items()
    with pytest.raises(InvalidRequest, match=rf"^{fault}: {name}='{value}', expected "):
        FAULTS[fault].read(values)


def test_requests_for_one_symbol_are_never_answered(with_client):
    async def work(client, gateway):
        with gateway.unanswered("data", "MSFT"):
            msft = Stock("MSFT", "SMART", "USD")
            msft_hangs = await hangs(client.reqContractDetailsAsync(msft))
            return msft_hangs, await is_answered(bars(client), 5)

    assert with_client(work) == (True, True)


def test_unanswered_requests_count_as_open(with_client):
    async def work(client, gateway):
        with gateway.unanswered():
            hanging = [asyncio.ensure_future(bars(client, f"{n} D")) for n in (1, 2)]
            await until(lambda: gateway.summary()["in_flight"] == 2)
            assert (await refused(bars(client, "3 D")))[0] == 322
            for request in hanging:
                request.cancel()

    with_client(work, limits=Limits(open_requests=2))


def test_a_late_answer_comes_late(with_client):
    async def work(client, gateway):
        with gateway.late(0.5):
            request = asyncio.ensure_future(bars(client))
            assert await hangs(asyncio.shield(request))
            return len(await request)

    assert with_client(work) == 78


def dates(got):
    return [bar.date for bar in got]


def test_bars_come_doubled_unordered_or_not_all(with_client):
    async def work(client, gateway):
        right = dates(await bars(client))
        with gateway.doubled_bars():
            assert dates(await bars(client)) == [date for date in right for _ in "ab"]
        with gateway.unordered_bars():
            mixed = dates(await bars(client))
            assert mixed != right
            assert sorted(mixed) == right
        with gateway.missing_bars(every=4):
            some = dates(await bars(client))
            assert len(some) == 78 - 20
            assert {b - a for a, b in pairwise(some)} == {
                right[1] - right[0],
                right[2] - right[0],
            }
        assert dates(await bars(client)) == right
        return [e["verdict"] for e in gateway.record if e.get("bars")]

    assert with_client(work) == ["", "doubled_bars", "unordered_bars", "missing_bars", ""]


@pytest.mark.parametrize(
    ("how", "is_wrong"),
    [
        ("nan", lambda bar, _: math.isnan(bar.close)),
        ("inf", lambda bar, _: math.isinf(bar.high)),
        ("unset", lambda bar, _: bar.low == sys.float_info.max),
        ("low", lambda bar, _: bar.low > bar.high),
        ("half_minute", lambda bar, right: bar.date == right.date + timedelta(seconds=30)),
        ("night", lambda bar, right: bar.date == right.date + timedelta(hours=12)),
        ("zero", lambda bar, _: bar.high == bar.low == 0.0),
        ("unset_volume", lambda bar, _: float(bar.volume) == float(2**63 - 1)),
    ],
)
def test_one_bar_of_three_is_wrong(with_client, how, is_wrong):
    async def work(client, gateway):
        right = await bars(client, format_date=2)
        with gateway.wrong_bars(how):
            return right, await bars(client, format_date=2)

    right, wrong = with_client(work)
    assert [place for place in range(78) if is_wrong(wrong[place], right[place])] == list(
        range(1, 78, 3)
    )
    assert wrong[::3] == right[::3]


def test_a_bar_comes_twice_with_two_closes(with_client):
    async def work(client, gateway):
        with gateway.wrong_bars("contradicting"):
            return await bars(client)

    got = with_client(work)
    twice = [(one, other) for one, other in pairwise(got) if one.date == other.date]
    assert len(twice) == 26
    assert all(one.close != other.close for one, other in twice)


@pytest.mark.parametrize("how", ["text", "torn"])
def test_an_answer_that_cannot_be_read_leaves_a_client_without_one(with_client, how):
    async def work(client, gateway):
        with gateway.wrong_bars(how):
            assert await hangs(bars(client))
        return len(await bars(client))

    assert with_client(work) == 78


def test_a_wrong_clock_is_off_and_bars_are_not(with_client, monday):
    async def work(client, gateway):
        with gateway.wrong_clock(-7200):
            wrong = await client.reqCurrentTimeAsync()
            answered = await bars(client)
        return (monday - wrong).total_seconds() // 1, len(answered)

    assert with_client(work) == (7200, 78)


def test_executions_are_never_answered(with_client):
    async def work(client, gateway):
        with gateway.unanswered_executions():
            assert await hangs(client.reqExecutionsAsync())
            assert await client.reqPositionsAsync() == []
        return await is_answered(client.reqExecutionsAsync())

    assert with_client(work)


def test_with_read_only_api_orders_get_321_and_never_end(with_client):
    async def work(client, gateway):
        codes = codes_of(client)
        with gateway.read_only_api():
            assert await hangs(client.reqOpenOrdersAsync())
            assert await hangs(client.reqCompletedOrdersAsync(apiOnly=False))
        return codes

    assert with_client(work) == [321, 321]


def test_a_gateway_in_a_thread_has_the_same_faults():
    async def work(gateway):
        client = await new_client(gateway, timeout_s=5)
        with gateway.half_open():
            assert gateway.faults == {"half_open": {}}
            assert await hangs(bars(client))
        assert gateway.faults == {}
        answered = await is_answered(bars(client), 5)
        client.disconnect()
        return answered

    with running_gateway() as gateway:
        assert asyncio.run(work(gateway))
        assert gateway.summary()["faults"] == {"half_open": 1}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("nonsense", {}),
        ("drop", {"how": "gently"}),
        ("late", {"seconds": "soon"}),
        ("late", {"seconds": "nan"}),
        ("late", {"hours": 1}),
        ("notice", {"code": 1}),
        ("restart", {"for_s": -1}),
    ],
)
def test_what_is_no_fault_is_refused_and_changes_nothing(with_client, name, values):
    async def work(_, gateway):
        with pytest.raises(InvalidRequest):
            gateway.begin_fault(name, **values)
        return gateway.faults, gateway.is_listening

    assert with_client(work) == ({}, True)


def test_every_fault_can_be_begun_and_ended(with_client):
    async def work(_, gateway):
        for name in FAULTS:
            gateway.begin_fault(name)
            gateway.end_fault(name)
        return gateway.faults, gateway.is_listening, await can_connect(gateway)

    assert with_client(work) == ({}, True, True)
