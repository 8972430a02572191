"""What faults do to streams, as a real client meets it: bars with keepUpToDate, that is."""

from datetime import UTC, datetime, timedelta

import pytest

from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.market.market import truth
from tests.sim.streaming import AAPL, BTC, Forms, subscribed, until

MINUTE = int(datetime(2026, 11, 23, 15, 30, tzinfo=UTC).timestamp())


def test_open_streams_are_listed_dead_or_not(watched):
    async def work(seen, gateway):
        await seen.pass_s(10)
        gateway.ended_streams(symbol="BTC.USD")
        await seen.pass_s(10)
        listed = gateway.streams
        seen.client.cancelHistoricalData(seen.btc)
        await until(lambda: len(gateway.streams) == 1)
        return listed

    aapl, btc = watched(work)
    assert aapl == {
        "client_id": 1,
        "request_id": aapl["request_id"],
        "symbol": "AAPL",
        "bar_size": "1 min",
        "what_to_show": "TRADES",
        "is_lost": False,
        "until_s": MINUTE + 45,
    }
    assert (btc["is_lost"], btc["until_s"]) == (True, MINUTE + 35)


def test_a_silent_stream_stays_open_and_dead_until_it_is_opened_anew(watched):
    async def work(seen, gateway):
        with gateway.silent_streams("AAPL"):
            await seen.pass_s(40)
        await seen.pass_s(40)
        silent, told = seen.forms.of(seen.aapl), list(seen.errors)
        assert await seen.cancelled(seen.aapl) == 162
        new = await seen.stream(AAPL)
        await seen.pass_s(10)
        assert len(seen.forms.of(new)) == 2
        return silent, told, gateway.summary()["streams_lost"]

    assert watched(work) == ([], [], {"silent_streams": 1})


def test_a_stream_that_is_opened_meanwhile_gets_history_and_nothing_else(watched):
    async def work(seen, gateway):
        with gateway.silent_streams():
            another = await seen.stream(AAPL)
        await seen.stream(BTC)
        await seen.pass_s(10)
        return len(another), seen.forms.of(another), seen.forms.of(seen.btc)

    assert watched(work) == (11, [], [])


@pytest.mark.parametrize("farm", ["usfarm", "ushmds"])
def test_streams_are_dead_after_a_farm_was_broken_and_nothing_says_so(watched, farm):
    async def work(seen, gateway):
        with gateway.farm_broken(farm):
            pass
        new = await seen.stream(BTC)
        await seen.pass_s(40)
        assert seen.forms.of(new)
        return seen.forms.of(seen.aapl) + seen.forms.of(seen.btc), seen.errors

    broken = 2103 if farm == "usfarm" else 2105
    assert watched(work) == ([], [(-1, broken), (-1, broken + 1)])


def test_a_broken_farm_ends_streams_with_10182_if_it_says_so(watched):
    async def work(seen, gateway):
        with gateway.farm_broken("usfarm", streams="refused"):
            late = await seen.stream(AAPL)
            await seen.client.reqContractDetailsAsync(AAPL)
            numbers = {seen.aapl.reqId, seen.btc.reqId}
            assert {one for one in seen.errors if one[0] in numbers} == {
                (number, 10182) for number in numbers
            }
            assert (late.reqId, 10182) in seen.errors
        return len(late), await seen.cancelled(late)

    assert watched(work) == (11, 162)


def test_what_a_broken_farm_keeps_back_never_comes_and_then_streams_go_on(watched):
    async def work(seen, gateway):
        await seen.pass_s(5)
        with gateway.farm_broken("usfarm", streams="kept"):
            await seen.step(100)
        await seen.pass_s(60)
        return [form[0] - MINUTE for form in seen.forms.of(seen.aapl)]

    times = watched(work)
    assert sorted(set(times)) == [0, 120, 180]


def test_the_farm_of_contract_details_does_nothing_to_streams(watched):
    async def work(seen, gateway):
        with gateway.farm_broken("secdefil"):
            await seen.pass_s(10)

    watched(work)


def test_after_1102_streams_go_on_without_the_bars_of_the_outage(watched):
    async def work(seen, gateway):
        with gateway.connectivity_lost():
            await seen.step(100)
        await seen.pass_s(60)
        return seen.forms.of(seen.aapl), [code for _, code in seen.errors]

    forms, codes = watched(work)
    assert codes == [1100, 1102]
    assert sorted({form[0] - MINUTE for form in forms}) == [120, 180]


def test_after_1101_the_gateway_knows_streams_no_more(watched):
    async def work(seen, gateway):
        with gateway.connectivity_lost(1101):
            pass
        new = [await seen.stream(BTC), await seen.stream(AAPL)]
        await seen.pass_s(40)
        assert seen.forms.of(new[0])
        codes = [code for _, code in seen.errors]
        dead = seen.forms.of(seen.aapl) + seen.forms.of(seen.btc)
        return codes, dead, await seen.cancelled(seen.aapl)

    assert watched(work, limits=Limits(open_requests=2)) == ([1100, 1101], [], 366)


@pytest.mark.parametrize("code", [162, 10197])
def test_a_competing_session_ends_streams_for_good(watched, code):
    async def work(seen, gateway):
        with gateway.competing_session(code):
            await seen.client.reqContractDetailsAsync(AAPL)
            told = [got for number, got in seen.errors if number == seen.aapl.reqId]
        new = await seen.stream(BTC)
        await seen.pass_s(40)
        assert seen.forms.of(new)
        return told, seen.forms.of(seen.aapl)

    assert watched(work) == ([10197] if code == 10197 else [], [])


@pytest.mark.parametrize("code", [10182, 10197, 162])
def test_a_stream_ends_with_an_error(watched, code):
    async def work(seen, gateway):
        gateway.ended_streams(code, "AAPL")
        await seen.pass_s(40)
        return seen.errors == [(seen.aapl.reqId, code)], seen.forms.of(seen.aapl)

    assert watched(work) == (True, [])


def test_after_a_bust_ib_insync_opens_the_stream_anew(watched):
    async def work(seen, gateway):
        known = gateway.summary()["answers"]
        gateway.ended_streams(10225, "AAPL")
        await until(lambda: gateway.summary()["answers"] == known + 2)  # 162, and bars
        await seen.pass_s(10)
        return [code for number, code in seen.errors if number == seen.aapl.reqId]

    assert watched(work) == [10225, 162]


def test_a_stall_holds_updates_back_and_then_all_come(watched):
    async def work(seen, gateway):
        with gateway.stalled():
            for _ in range(8):
                await seen.step(5)
            assert seen.forms.seen == []
        await seen.forms.after(7, seen.aapl)
        return [form[0] - MINUTE for form in seen.forms.of(seen.aapl)]

    assert watched(work) == [0] * 7 + [60]


def test_prices_of_streams_are_in_the_other_unit_too(watched):
    async def work(seen, gateway):
        with gateway.other_unit("price", 0.01):
            await seen.pass_s(35)
        return seen.forms.of(seen.aapl)

    forms = watched(work)
    (row,) = truth("AAPL", "1m", MINUTE, MINUTE + 60)
    ended = [form for form in forms if form[0] == MINUTE][-1]
    assert ended[1:6] == (*(round(price / 100, 8) for price in row[1:5]), row.volume)


def test_bars_of_streams_are_on_the_other_grid_too(with_clock):
    async def work(client, gateway, clock):
        forms = Forms(client)
        with gateway.other_grid(20):
            bars = await subscribed(client, AAPL, "1 hour", duration="1 D")
            clock.now += timedelta(hours=1)
            await forms.after(1)
        return bars[-2].date, bars[-1].date

    before, last = with_clock(work)
    assert [before.strftime("%H:%M"), last.strftime("%H:%M")] == ["15:20", "16:20"]


def test_in_a_half_open_connection_streams_are_silent_and_then_go_on(watched):
    async def work(seen, gateway):
        with gateway.half_open():
            await seen.step(100)
        await seen.pass_s(5)
        return seen.forms.of(seen.aapl)

    forms = watched(work)
    assert [form[0] - MINUTE for form in forms] == [120]


def test_a_restart_ends_the_connection_and_its_streams(watched):
    async def work(seen, gateway):
        with gateway.restarting():
            await until(lambda: not seen.client.isConnected())
            await until(lambda: gateway.client_ids == [])
            return gateway.streams

    assert watched(work) == []


def test_streams_without_answers_stay_silent_until_the_end(watched):
    async def work(seen, gateway):
        with gateway.unanswered("bars", "AAPL"):
            await seen.step(100)
        await seen.pass_s(5)
        return [{form[0] - MINUTE for form in seen.forms.of(b)} for b in (seen.aapl, seen.btc)]

    assert watched(work) == [{120}, {0, 60, 120}]
